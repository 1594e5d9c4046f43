"""Calls of tools in an answer's text, between the tags of Hermes and Qwen: ``<tool_call>{"name": …}</tool_call>``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

OPEN, CLOSE = "<tool_call>", "</tool_call>"
LONGEST = 1 << 20  # characters of a call


@dataclass(frozen=True)
class Call:
    """A call: the function's name, and its arguments as an object."""

    name: str
    arguments: dict[str, Any]


def parse_call(text: str) -> Call | None:
    """The call that stands between the tags; None if it is none."""
    if len(text) > LONGEST:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return None
    arguments = found.get("arguments", found.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    return Call(found["name"], arguments) if isinstance(arguments, dict) else None


def split_calls(text: str) -> tuple[str, list[Call]]:
    """The words of an answer, and the calls at its end; an answer of another form has no calls."""
    stream = CallStream()
    words = stream.push(text) + stream.finish()
    if not stream.calls or stream.follows:
        return text, []
    return words.removesuffix("\n"), stream.calls


class CallStream:
    """Separates words from calls while an answer comes.

    Attributes:
        calls: those that are complete.
        follows: whether words came after a call.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.follows = False
        self._held = ""

    def push(self, text: str) -> str:
        """The words that are certain with ``text``; what may begin a call is held back."""
        self._held += text
        words = ""
        while True:
            begin = self._held.find(OPEN)
            if begin < 0:
                kept = _beginning(self._held)
                return words + self._words(len(self._held) - kept)
            words += self._words(begin)
            end = self._held.find(CLOSE)
            if end < 0:
                return words
            call = parse_call(self._held[len(OPEN) : end])
            if call is None:  # something else between the tags: it is text
                words += self._words(end + len(CLOSE))
                continue
            self.calls.append(call)
            self._held = self._held[end + len(CLOSE) :]

    def finish(self) -> str:
        """The words that were held back; a call that is not complete is text."""
        return self._words(len(self._held))

    def _words(self, count: int) -> str:
        words, self._held = self._held[:count], self._held[count:]
        if self.calls and not words.strip():  # what separates calls
            return ""
        self.follows = self.follows or bool(self.calls and words)
        return words


def _beginning(text: str) -> int:
    """Characters at the end that may begin the tag."""
    return next((size for size in range(min(len(OPEN) - 1, len(text)), 0, -1) if OPEN.startswith(text[-size:])), 0)
