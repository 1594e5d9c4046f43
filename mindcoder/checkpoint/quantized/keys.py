"""Keys of a format's description: each is implemented with some of its values, known to change nothing, or refused."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindcoder.errors import UserError

ANY = object()  # in place of a key's values: all of them, because it says how the integers were found

Known = Mapping[str, tuple[Any, ...]]


def check_keys(found: Any, known: Known, where: str, file: Path) -> None:
    """Refuse keys that are not known, and values that are not implemented.

    Args:
        known: key -> its implemented values (None stands for null), or `ANY`.
        where: path of the object in ``file``.

    Raises:
        UserError: names the key.
    """
    if not isinstance(found, Mapping):
        raise UserError(f"{where}: expected an object, found {found!r:.60}", file)
    for key, value in found.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            raise UserError(f"{where}.{key}: unknown key{f'; the nearest is {close[0]}' if close else ''}", file)
        values = known[key]
        if ANY not in values and not any(value == item and isinstance(value, type(item)) for item in values):
            names = " or ".join("null" if item is None else str(item) for item in values)
            raise UserError(f"{where}.{key} {value!r:.60} is not implemented; expected {names}", file)


def expect_form(tensor: Any, dtype: str, shape: tuple[int, ...] | None) -> None:
    """Refuse a `StoredTensor` of another dtype or, unless ``shape`` is None, shape.

    Raises:
        UserError: names the tensor.
    """
    if tensor.dtype != dtype or (shape is not None and tensor.shape != shape):
        expected = dtype if shape is None else f"{dtype} {list(shape)}"
        raise UserError(f"{tensor.name} is {tensor.dtype} {list(tensor.shape)}, expected {expected}", tensor.file)
