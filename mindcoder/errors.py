"""Errors that are the user's to mend: one line, a place, no stack trace."""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """Something the user gave is wrong. The command line prints it as one line and exits with code 2.

    Args:
        message: what was found and what is expected.
        file: the file at fault.
        line: 1-based line in it.
    """

    def __init__(self, message: str, file: str | Path | None = None, line: int | None = None) -> None:
        self.file, self.line = file, line
        place = ""
        if file is not None:
            place = f"{file}:{line}: " if line is not None else f"{file}: "
        super().__init__(place + message)


class NoSpaceError(UserError):
    """The disk is full; nothing half-written was left under the final name."""
