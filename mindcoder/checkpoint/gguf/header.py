"""Header of a GGUF file: metadata, and where each tensor lies. Everything is checked before memory is taken for it.

The format is that of ggml-org/ggml, docs/gguf.md, version 3, little-endian.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mindcoder.checkpoint.gguf.block_type import BlockType
from mindcoder.checkpoint.gguf.tensor_types import NOT_READ, TENSOR_TYPES
from mindcoder.checkpoint.gguf.value_types import ARRAY, BOOL, FLOAT32, FLOAT64, NUMBERS, STRING
from mindcoder.errors import UserError, single_line

MAGIC, BIG_ENDIAN_MAGIC = b"GGUF", b"FUGG"
VERSION = 3
ALIGNMENT_KEY, DEFAULT_ALIGNMENT, LARGEST_ALIGNMENT = "general.alignment", 32, 1 << 16
# Far above every published file, and low enough that a hostile one costs little.
MOST_KEYS, MOST_TENSORS, MOST_ITEMS = 1 << 16, 1 << 17, 1 << 22
LONGEST_NAME, LONGEST_TEXT, LARGEST_HEADER = 1 << 10, 64 << 20, 256 << 20  # bytes
MOST_DIMENSIONS = 4


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as the header describes it.

    Attributes:
        name: of the tensor.
        shape: in numpy's order; the file has it reversed.
        kind: how its values are stored.
        offset: of its first byte in the file.
    """

    name: str
    shape: tuple[int, ...]
    kind: BlockType
    offset: int

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return self.kind.byte_count(math.prod(self.shape))


@dataclass(frozen=True)
class Header:
    """What precedes the tensors.

    Attributes:
        metadata: values by key; FLOAT32 as the shortest decimal number that rounds to it.
        tensors: by name, in the file's order.
    """

    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]


def read_header(file: Path) -> Header:
    """Read and check the header.

    Raises:
        UserError: not GGUF, another version, truncated, or it contradicts itself or the file's size.
    """
    try:
        with open(file, "rb") as stream:
            cursor = _Cursor(stream, os.fstat(stream.fileno()).st_size, file)
            return _read(cursor)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", file) from None


class _Cursor:
    """Reads a file from its start; each piece is compared with what is left of the file first."""

    def __init__(self, stream: BinaryIO, size: int, file: Path) -> None:
        self.stream, self.size, self.file = stream, size, file
        self.at = 0

    def error(self, message: str) -> UserError:
        return UserError(single_line(message, 300), self.file)

    def take(self, count: int, what: str) -> bytes:
        if count > self.size - self.at:
            raise self.error(f"ends within {what}: {count} bytes expected at {self.at}, {self.size - self.at} left")
        if self.at + count > LARGEST_HEADER:
            raise self.error(f"{what}: the header is longer than {LARGEST_HEADER >> 20} MiB, the most that is read")
        data = self.stream.read(count)
        if len(data) != count:
            raise self.error(f"ends within {what}: it became shorter while it was read")
        self.at += count
        return data

    def number(self, form: str, what: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form), what))[0]

    def text(self, what: str, most: int) -> str:
        length = self.number("<Q", f"the length of {what}")
        if length > most:
            raise self.error(f"{what}: a text of {length} bytes, at most {most} are read")
        data = self.take(length, what)
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise self.error(f"{what} is not UTF-8: {data[:40]!r}") from None


def _read(cursor: _Cursor) -> Header:
    magic = cursor.take(4, "its first four bytes")
    if magic == BIG_ENDIAN_MAGIC:
        raise cursor.error("is big-endian GGUF, expected little-endian")
    if magic != MAGIC:
        raise cursor.error(f"is not a GGUF file: it begins with {magic!r}, expected {MAGIC!r}")
    version = cursor.number("<I", "the version")
    if version != VERSION:
        if version == int.from_bytes(VERSION.to_bytes(4, "little"), "big"):
            raise cursor.error("is big-endian GGUF, expected little-endian")
        raise cursor.error(f"is GGUF version {version}, expected {VERSION}: write it again with a newer llama.cpp")
    tensors, keys = cursor.number("<Q", "the number of tensors"), cursor.number("<Q", "the number of keys")
    for count, most, what in ((tensors, MOST_TENSORS, "tensors"), (keys, MOST_KEYS, "metadata keys")):
        if count > most:
            raise cursor.error(f"says that it has {count} {what}, at most {most} are read")
    metadata: dict[str, Any] = {}
    for _ in range(keys):
        key = cursor.text("a metadata key", LONGEST_NAME)
        if key in metadata:
            raise cursor.error(f"metadata key {key!r} occurs twice")
        metadata[key] = _value(cursor, key)
    alignment = metadata.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or not 1 <= alignment <= LARGEST_ALIGNMENT or alignment & (alignment - 1):
        raise cursor.error(f"{ALIGNMENT_KEY} {alignment!r}: expected a power of two up to {LARGEST_ALIGNMENT}")
    infos = [_tensor(cursor) for _ in range(tensors)]
    start = -(-cursor.at // alignment) * alignment
    return Header(metadata, _placed(infos, start, alignment, cursor))


def _value(cursor: _Cursor, key: str) -> Any:
    kind = cursor.number("<I", f"the type of {key}")
    if kind == STRING:
        return cursor.text(key, LONGEST_TEXT)
    if kind == ARRAY:
        return _array(cursor, key)
    if kind not in NUMBERS:
        raise cursor.error(f"metadata key {key!r} has type {kind}, which GGUF does not have")
    return _plain(cursor.number(NUMBERS[kind], key), kind, key, cursor)


def _array(cursor: _Cursor, key: str) -> list[Any]:
    kind, count = cursor.number("<I", f"the type of {key}"), cursor.number("<Q", f"the length of {key}")
    if kind != STRING and kind not in NUMBERS:
        nested = "an array of arrays, which no known key is" if kind == ARRAY else f"items of type {kind}"
        raise cursor.error(f"metadata key {key!r} has {nested}")
    least = 8 if kind == STRING else struct.calcsize(NUMBERS[kind])
    if count > MOST_ITEMS or count * least > cursor.size - cursor.at:
        raise cursor.error(f"metadata key {key!r} has {count} items: more than the file can hold, or than are read")
    if kind == STRING:
        return [cursor.text(f"an item of {key}", LONGEST_TEXT) for _ in range(count)]
    values = struct.unpack(f"<{count}{NUMBERS[kind][1]}", cursor.take(count * least, key))
    if kind == FLOAT32:  # thousands of scores: their exact values are fine
        return list(values)
    return [_plain(value, kind, key, cursor) for value in values]


def _plain(value: Any, kind: int, key: str, cursor: _Cursor) -> Any:
    if kind == BOOL:
        if value > 1:
            raise cursor.error(f"metadata key {key!r} is {value}, expected 0 or 1 for false or true")
        return bool(value)
    if kind == FLOAT32:
        return float(str(np.float32(value)))  # 1e-06, where the exact value is 9.999999974752427e-07
    if kind == FLOAT64:
        return float(value)
    return value


def _tensor(cursor: _Cursor) -> TensorInfo:
    name = cursor.text("the name of a tensor", LONGEST_NAME)
    what = f"tensor {name!r}"
    dimensions = cursor.number("<I", what)
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise cursor.error(f"{what} has {dimensions} dimensions, expected 1 to {MOST_DIMENSIONS}")
    shape = tuple(reversed([cursor.number("<Q", what) for _ in range(dimensions)]))
    number, offset = cursor.number("<I", what), cursor.number("<Q", what)
    kind = TENSOR_TYPES.get(number)
    if kind is None:
        known = ", ".join(found.name for found in TENSOR_TYPES.values())
        raise cursor.error(f"{what} has type {NOT_READ.get(number, number)}, which is not read; expected {known}")
    if not all(shape) or shape[-1] % kind.values:
        raise cursor.error(f"{what} has shape {list(shape)}: expected rows of {kind.name}'s blocks of {kind.values}")
    return TensorInfo(name, shape, kind, offset)


def _placed(infos: list[TensorInfo], start: int, alignment: int, cursor: _Cursor) -> dict[str, TensorInfo]:
    """The tensors with offsets in the file; checks that they are aligned, inside it and apart."""
    placed: dict[str, TensorInfo] = {}
    for info in infos:
        if info.name in placed:
            raise cursor.error(f"tensor {info.name!r} occurs twice")
        if info.offset % alignment:
            raise cursor.error(f"tensor {info.name!r} begins at {info.offset}, which is not a multiple of {alignment}")
        found = TensorInfo(info.name, info.shape, info.kind, start + info.offset)
        if found.offset + found.nbytes > cursor.size:
            raise cursor.error(
                f"tensor {info.name!r} ends at byte {found.offset + found.nbytes}, the file at {cursor.size}"
            )
        placed[info.name] = found
    ordered = sorted(placed.values(), key=lambda info: info.offset)
    for before, after in zip(ordered, ordered[1:]):
        if before.offset + before.nbytes > after.offset:
            raise cursor.error(f"tensors {before.name!r} and {after.name!r} overlap")
    return placed
