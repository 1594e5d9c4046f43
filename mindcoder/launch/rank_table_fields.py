"""Fields of a rank table's JSON; errors name a field by its path in the file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindcoder.errors import UserError
from mindcoder.files import json_kind

MAX_NUMBER_DIGITS = 9
MAX_NAME = 253  # characters of a DNS name; CANN allows 64 for a server_id
PLACEHOLDER = re.compile(r"(x+[.:]){2,}x+|<.*>|your[_ -].*", re.IGNORECASE)


@dataclass(frozen=True)
class Fields:
    """One object of the file.

    Attributes:
        file: for messages.
        path: of the object in the file, such as ``server_list[0].device[3]``; empty for the whole.
        values: the object.
    """

    file: Path
    path: str
    values: dict[str, Any]

    def fail(self, key: str, message: str) -> UserError:
        """The error to raise about a field."""
        return UserError(f"{self._at(key)} {message}", self.file)

    def has(self, key: str) -> bool:
        """Whether the field is there and not null."""
        return self.values.get(key) is not None

    def number(self, key: str) -> int:
        """A whole number of at least 0, as a string of digits (``"3"``, as the tools write it) or a JSON number.

        Raises:
            UserError: it is missing, negative, or something else.
        """
        value = self._there(key, 'a whole number such as "3"')
        text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
        if not re.fullmatch(rf"[0-9]{{1,{MAX_NUMBER_DIGITS}}}", text):
            raise self.fail(key, f"is {shown(value)}, expected a whole number from 0 on")
        return int(text)

    def text(self, key: str, expected: str) -> str:
        """A printable string that is not empty.

        Raises:
            UserError: it is missing, or something else.
        """
        value = self._there(key, expected)
        if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > MAX_NAME:
            raise self.fail(key, f"is {shown(value)}, expected {expected}")
        return value.strip()

    def name(self, key: str, expected: str) -> str:
        """A string, or a number as a string.

        Raises:
            UserError: it is missing, or something else.
        """
        value = self.values.get(key)
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else self.text(key, expected)

    def address(self, key: str) -> str:
        """A server's address or name.

        Raises:
            UserError: it is missing, holds spaces, or is the placeholder of an example.
        """
        found = self.text(key, "the server's address or name")
        if PLACEHOLDER.fullmatch(found):
            raise self.fail(key, f"is the placeholder {found}: write the address there (tools/hccl_tools.py does)")
        if re.search(r"[\s/\\\"']", found):
            raise self.fail(key, f"is {shown(found)}, expected the server's address or name")
        return found

    def items(self, key: str) -> list[Fields]:
        """A list of objects with at least one in it.

        Raises:
            UserError: it is missing, empty, or something else.
        """
        value = self._there(key, "a list")
        if not isinstance(value, list):
            raise self.fail(key, f"is {shown(value)}, expected a list")
        if not value:
            raise self.fail(key, "is an empty list")
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                raise self.fail(f"{key}[{index}]", f"is {shown(item)}, expected an object {{…}}")
        return [Fields(self.file, self._at(f"{key}[{index}]"), item) for index, item in enumerate(value)]

    def check_count(self, key: str, found: int, what: str) -> None:
        """Compare a count that the file states with the length of its list; the count is optional.

        Raises:
            UserError: they differ.
        """
        if self.has(key) and self.number(key) != found:
            raise self.fail(key, f"is {self.number(key)}, but {found} {what} listed")

    def _there(self, key: str, expected: str) -> Any:
        if not self.has(key):
            raise self.fail(key, f"is missing, expected {expected}")
        return self.values[key]

    def _at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


def shown(value: Any) -> str:
    """A JSON value for a message: its kind, or the value itself if it is short."""
    if isinstance(value, dict | list | bool | None):
        return json_kind(value) if isinstance(value, dict | list | None) else str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
