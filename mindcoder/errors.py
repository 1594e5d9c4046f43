"""Errors that the user can fix: one line with a location, no stack trace."""

from __future__ import annotations

import re
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
