"""What arguments of these functions may be. Every check raises `UserError` with the argument's name."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from mindcoder.errors import UserError, shown

LARGEST_COUNT = 2**31 - 1
DEVICES = ("auto", "CPU", "Ascend")
WEIGHT_DTYPES = ("float32", "float16", "bfloat16")


def adapter_pairs(adapters: object) -> tuple[tuple[str, str], ...]:
    """(name, path) of each adapter, from a dictionary or a list of pairs."""
    items = list(adapters.items() if isinstance(adapters, Mapping) else adapters if _is_list(adapters) else [adapters])
    for item in items:
        if not (_is_list(item) and len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], str | Path)):
            form = "names and paths, such as {'sql': 'output/lora'}"
            raise UserError(f"adapters: expected {form}, found {shown(item)}")
    return tuple((name, str(path)) for name, path in items)


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def check_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    """One of a few values."""
    if value not in known:
        raise UserError(f"{name}: expected one of {', '.join(known)}, found {shown(value)}")


def check_positive(name: str, value: object) -> None:
    """A whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_COUNT:
        too_large = isinstance(value, int) and value > LARGEST_COUNT
        bound = f"of at most {LARGEST_COUNT}" if too_large else "of at least 1"
        raise UserError(f"{name}: expected a whole number {bound}, found {shown(value)}")


def check_index(name: str, value: object) -> None:
    """A whole number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_COUNT:
        raise UserError(f"{name}: expected a whole number from 0 on, found {shown(value)}")


def check_flag(name: str, value: object) -> None:
    """True or False; a text such as ``"no"`` would count as true."""
    if not isinstance(value, bool):
        raise UserError(f"{name}: expected True or False, found {shown(value)}")


def check_number(name: str, value: object) -> None:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{name}: expected a number, found {shown(value)}")


def texts_of(name: str, value: object) -> tuple[str, ...]:
    """A text, or several."""
    items = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else (value,)
    for item in items:
        if not isinstance(item, str):
            raise UserError(f"{name}: expected texts, found {shown(item)}")
    return items


def path_text(name: str, value: object) -> str:
    """A path as text."""
    if not isinstance(value, str | Path) or not value or "\0" in str(value):
        raise UserError(f"{name}: expected a path, found {shown(value)}")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise UserError(f"{name}: expected a path, found {shown(value)}") from None
    return str(value)


def optional_path(name: str, value: object) -> str | None:
    """A path as text, or None."""
    return None if value is None else path_text(name, value)


def optional_name(name: str, value: str | None) -> str | None:
    """A name, or None."""
    if value is not None and not isinstance(value, str):
        raise UserError(f"{name}: expected a name, found {shown(value)}")
    return value


def byte_count(name: str, value: float | str) -> float:
    """A size in bytes, from a number or a text such as ``"64GB"``."""
    from mindcoder.sizes import parse_bytes

    try:
        size = parse_bytes(value) if isinstance(value, str) else value
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None
    if isinstance(size, bool) or not isinstance(size, int | float) or not 1 <= size < 2**63:
        raise UserError(f"{name}: expected a number of bytes or a text such as '64GB', found {shown(value)}")
    return size
