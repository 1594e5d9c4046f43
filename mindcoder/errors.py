"""Errors that the user can fix: one line with a location, no stack trace."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LINE_LIMIT = 2000


class UserError(Exception):
    """Invalid input by the user. The command line prints it as one line and exits with code 2.

    Args:
        message: what was found and what is expected.
        file: the file at fault.
        line: 1-based line in it.
    """

    def __init__(self, message: str, file: str | Path | None = None, line: int | None = None) -> None:
        self.file, self.line = file, line
        location = ""
        if file is not None:
            location = f"{file}:{line}: " if line is not None else f"{file}: "
        super().__init__(location + message)


class NoSpaceError(UserError):
    """The disk is full; no incomplete file was left under the final name."""


def single_line(text: str, limit: int = LINE_LIMIT) -> str:
    """``text`` on one line: line ends become spaces, control characters (a terminal would interpret them) are escaped.

    Args:
        limit: number of characters to keep; the rest is replaced by "…".
    """
    text = re.sub(r"\s*[\r\n\v\f\x85\u2028\u2029]\s*", " ", text[: 2 * limit].strip())
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", lambda match: ascii(match[0])[1:-1], text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def shown(value: object, limit: int = 60) -> str:
    """A value in a message."""
    try:
        return single_line(repr(value), limit)
    except ValueError:  # Python writes no longer numbers
        return "a number of more than 4300 digits"


def system_reason(error: BaseException) -> str | None:
    """One line for what the machine refused: a file, memory, a name that is not text; None for other errors."""
    if isinstance(error, OSError):
        return _operating_system(error)
    if isinstance(error, RecursionError):
        return "something given is nested too deeply to be read (--debug shows where)"
    if isinstance(error, MemoryError):
        wanted = f": {single_line(str(error), 200)}" if str(error) else ""
        return f"not enough memory{wanted}"
    if isinstance(error, UnicodeDecodeError):
        return f"bytes that are not {error.encoding}: {error.reason} at byte {error.start} (--debug shows where)"
    if isinstance(error, UnicodeError):
        return f"text that cannot be written: {single_line(str(error), 200)} (--debug shows where)"
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return "a path with a null byte in it"
    return None


@contextmanager
def user_errors() -> Iterator[None]:
    """Within, what the machine refuses (see `system_reason`) is a `UserError`, as the command line reports it."""
    try:
        yield
    except Exception as error:
        reason = None if isinstance(error, UserError | BrokenPipeError) else system_reason(error)
        if reason is None:
            raise
        raise UserError(reason.replace(" (--debug shows where)", "")) from error


def _operating_system(error: OSError) -> str:
    """File and reason; errors raised by libraries have no ``strerror``."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno == errno.ENOSPC:
        reason = "no space left on the disk"
    named = [name for name in (error.filename, error.filename2) if name is not None]
    names = [shortened(os.fsdecode(name) if isinstance(name, bytes) else str(name)) for name in named]
    return single_line(f"{' -> '.join(names)}: {reason}" if names else reason)


def shortened(name: str, limit: int = 300) -> str:
    """A path in a message; of an over-long one the beginning."""
    return name if len(name) <= limit else f"{name[:limit]}…"
