"""Types of metadata values in GGUF files."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)

# Little-endian form of each number, as `struct` writes it.
NUMBERS = {
    UINT8: "<B",
    INT8: "<b",
    UINT16: "<H",
    INT16: "<h",
    UINT32: "<I",
    INT32: "<i",
    FLOAT32: "<f",
    BOOL: "<B",
    UINT64: "<Q",
    INT64: "<q",
    FLOAT64: "<d",
}
LARGEST_UINT32 = 2**32 - 1


def type_of(value: Any) -> int:
    """The type under which a value is written: whole numbers as UINT32 where they fit, as llama.cpp expects them.

    Raises:
        TypeError: no type of GGUF holds it.
    """
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return UINT32 if 0 <= value <= LARGEST_UINT32 else INT32 if -(2**31) <= value < 0 else INT64
    if isinstance(value, float):
        return FLOAT32
    if isinstance(value, str):
        return STRING
    if isinstance(value, list | tuple):
        return ARRAY
    raise TypeError(f"GGUF holds no {type(value).__name__}")


def packed(value: Any) -> bytes:
    """A value in a file, with its type before it."""
    kind = type_of(value)
    return struct.pack("<I", kind) + _content(value, kind)


def packed_text(text: str) -> bytes:
    """A string with its length before it."""
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _content(value: Any, kind: int) -> bytes:
    if kind == STRING:
        return packed_text(value)
    if kind != ARRAY:
        return struct.pack(NUMBERS[kind], value)
    item_kind = _kind_of_items(value)
    head = struct.pack("<IQ", item_kind, len(value))
    if item_kind == STRING:
        return head + b"".join(map(packed_text, value))
    return head + struct.pack(f"<{len(value)}{NUMBERS[item_kind][1]}", *value)


def _kind_of_items(values: Sequence[Any]) -> int:
    """Whole numbers are INT32, as in llama.cpp's own files."""
    kinds = {type_of(item) for item in values} or {STRING}
    if kinds <= {UINT32, INT32} and max(values) < 2**31:
        return INT32
    if len(kinds) > 1:
        raise TypeError(f"an array of GGUF has items of one type, found {sorted(kinds)}")
    return kinds.pop()
