"""The C++ operators for CPU: `mindcoder/native`, compiled by the installation."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from mindcoder.backend.shared_object import what_is_wrong
from mindcoder.errors import UserError, single_line

LIBRARY = Path(__file__).resolve().parent.parent / "native" / "libmindcoder_cpu.so"
BUILD = "pip install -e . builds it (setup.py)"


def require_library() -> None:
    """Check that it is there.

    Raises:
        UserError: it is not.
    """
    if not LIBRARY.is_file():
        raise UserError(f"{LIBRARY}: found no such file, expected the operators for CPU; {BUILD}")


@cache
def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32."""
    asked = _opened(LIBRARY).MindCoderHasBfloat16
    asked.restype = ctypes.c_bool
    return asked()


Value = TypeVar("Value")
ANOTHER_VERSION = "was built from another version of MindCoder"


@dataclass(frozen=True)
class Signature:
    """Names of an operator's inputs (attributes are inputs, too) and outputs, in the library's order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class ArgumentTable:
    """The table that a library was built from.

    Args:
        text: a line for each operator or list, "RmsNorm: INPUTS(x, weight, eps), OUTPUTS(y, rstd)" or
            "StepFactors: norm_epsilon, query_scale".
        library: that it came from, for messages.
    """

    def __init__(self, text: str, library: Path) -> None:
        self.library = library
        self._lines = dict(line.split(": ", 1) for line in text.splitlines())

    def signature(self, operator: str) -> Signature:
        """Inputs and outputs of an operator.

        Raises:
            UserError: the library has no such operator.
        """
        found = re.fullmatch(r"INPUTS\((.*)\), OUTPUTS\((.*)\)", self._line(operator))
        assert found is not None, operator
        return Signature(*(tuple(names.split(", ")) for names in found.groups()))

    def names(self, name: str) -> tuple[str, ...]:
        """A list of names, of inputs or of the numbers in one.

        Raises:
            UserError: the library has no such list.
        """
        return tuple(self._line(name).split(", "))

    def in_order(self, what: str, names: tuple[str, ...], given: Mapping[str, Value]) -> list[Value]:
        """What is given by name, in the order of ``names``.

        Args:
            what: has those names, for the message.

        Raises:
            UserError: other names are given than those.
        """
        self.check(what, names, given)
        return [given[name] for name in names]

    def check(self, what: str, names: tuple[str, ...], given: Mapping[str, object]) -> None:
        """See `in_order`."""
        unknown, missing = [name for name in given if name not in names], [name for name in names if name not in given]
        if unknown or missing:
            differs = [f"does not know {name}" for name in unknown] + [f"expects {name} too" for name in missing]
            raise UserError(f"{self.library} {ANOTHER_VERSION}: its {what} {', '.join(differs)}; {BUILD}")

    def _line(self, name: str) -> str:
        if name not in self._lines:
            raise UserError(f"{self.library} {ANOTHER_VERSION}: it has no {name}; {BUILD}")
        return self._lines[name]


@cache
def argument_table(library: Path = LIBRARY) -> ArgumentTable:
    """The table of ``library``.

    Raises:
        UserError: there is no library, a damaged one, or one that does not tell its table.
    """
    require_library()
    try:
        tell = _opened(library).MindCoderArguments
    except AttributeError:
        raise UserError(f"{library} {ANOTHER_VERSION}: it does not tell the order of arguments; {BUILD}") from None
    tell.restype = ctypes.c_char_p
    return ArgumentTable(tell().decode(), library)


def _opened(library: Path) -> ctypes.CDLL:
    """The library, loaded.

    Raises:
        UserError: it is damaged, or made for another machine.
    """
    problem = what_is_wrong(library)
    if problem is not None:
        raise UserError(f"{library}: {problem}; {BUILD}")
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        reason = single_line(str(error).removeprefix(f"{library}: "), 200)
        raise UserError(f"{library}: cannot be loaded: {reason}; {BUILD}") from None
