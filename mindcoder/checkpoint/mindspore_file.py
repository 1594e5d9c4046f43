"""MindSpore's ``.ckpt`` files, read and written tensor by tensor.

The format is the protobuf message of mindspore's checkpoint.proto: repeated ``Value {tag, TensorProto {dims,
tensor_type, tensor_content}}``, with tensors over 512 MB split into several Values with the same tag. MindSpore's own
functions hold the whole model in memory; since concatenated protobuf messages are one message, it can be done
piecewise.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.stored_tensor import Progress, StoredTensor, item_size, no_progress
from mindcoder.errors import UserError

DTYPES = {
    "Float64": "F64",
    "Float32": "F32",
    "Float16": "F16",
    "BFloat16": "BF16",
    "Int64": "I64",
    "Int32": "I32",
    "Int16": "I16",
    "Int8": "I8",
    "UInt8": "U8",
    "Bool": "BOOL",
}
VARINT, BYTES = 0, 2  # protobuf wire types
LONGEST_NAME, LARGEST_RANK = 4096, 16
CHECKSUM_MARK, CHECKSUM_BYTES = b"crc_num", 17


def list_mindspore(file: Path) -> dict[str, StoredTensor]:
    """Every tensor of a ``.ckpt`` file and the location of its bytes.

    Raises:
        UserError: the file is not a checkpoint, is encrypted, or truncated.
    """
    tensors: dict[str, StoredTensor] = {}
    try:
        with open(file, "rb") as stream:
            end = _without_checksum(stream, file.stat().st_size)
            while stream.tell() < end:
                found = _read_value(stream, end, file)
                if found is None:
                    continue
                before = tensors.get(found.name)
                if before is not None:  # a large tensor is split along its first axis
                    found = _joined(before, found)
                tensors[found.name] = found
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", file) from None
    except (ValueError, IndexError) as error:
        raise UserError(f"is not a valid MindSpore checkpoint: {error}", file) from None
    if not tensors:
        raise UserError("is not a MindSpore checkpoint: it has no tensors", file)
    for tensor in tensors.values():
        held = sum(count for _, count in tensor.extents)
        if held != math.prod(tensor.shape) * item_size(tensor.dtype):
            raise UserError(f"is truncated: tensor {tensor.name} has {held} bytes for shape {tensor.shape}", file)
    return tensors


def _without_checksum(stream: BinaryIO, size: int) -> int:
    """End of the entries: ``save_checkpoint(crc_check=True)`` appends a marker and a checksum."""
    if size > CHECKSUM_BYTES:
        stream.seek(size - CHECKSUM_BYTES)
        if stream.read(len(CHECKSUM_MARK)) == CHECKSUM_MARK:
            size -= CHECKSUM_BYTES
    stream.seek(0)
    return size


def _joined(before: StoredTensor, found: StoredTensor) -> StoredTensor:
    if (before.shape, before.dtype) != (found.shape, found.dtype):
        raise ValueError(f"tensor {found.name} occurs twice, as {before.shape} and as {found.shape}")
    return replace(before, extents=before.extents + found.extents)


def _varint(stream: BinaryIO) -> int:
    value = shift = 0
    while True:
        byte = stream.read(1)
        if not byte or shift > 63:
            raise ValueError(f"it is truncated or corrupt at byte {stream.tell()}")
        value |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            return value


def _fields(stream: BinaryIO, end: int) -> Iterator[tuple[int, int | tuple[int, int]]]:
    """(field number, integer or (offset, bytes)) of the message that ends at ``end``."""
    while stream.tell() < end:
        key = _varint(stream)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            yield number, _varint(stream)
        elif wire == BYTES:
            count = _varint(stream)
            begin = stream.tell()
            if begin + count > end:
                raise ValueError(f"a field of {count} bytes at byte {begin} ends beyond its message")
            yield number, (begin, count)
            stream.seek(begin + count)
        else:
            raise ValueError(f"unexpected wire type {wire} at byte {stream.tell()}")


def _text(stream: BinaryIO, extent: int | tuple[int, int]) -> str:
    if isinstance(extent, int) or extent[1] > LONGEST_NAME:
        raise ValueError(f"byte {stream.tell()}: expected a name")
    stream.seek(extent[0])
    return stream.read(extent[1]).decode()


def _read_value(stream: BinaryIO, size: int, file: Path) -> StoredTensor | None:
    """One top-level entry; None for a string rather than a tensor."""
    if _varint(stream) != (1 << 3 | BYTES):
        raise ValueError(f"byte {stream.tell() - 1} is not the start of a checkpoint entry")
    count = _varint(stream)
    end = stream.tell() + count
    if end > size:
        raise ValueError(f"an entry of {count} bytes ends beyond the file")
    name, dtype, dims, content = "", "", [], None
    for number, value in _fields(stream, end):
        if number == 1:
            name = _text(stream, value)
        elif number == 2 and isinstance(value, tuple):
            stream.seek(value[0])
            for inner, item in _fields(stream, value[0] + value[1]):
                if inner == 1:
                    dims += _dimensions(stream, item)
                elif inner == 2:
                    dtype = _text(stream, item)
                elif inner == 3 and isinstance(item, tuple):
                    content = item
    stream.seek(end)
    if dtype == "str":
        return None
    if content is None or not name:
        raise ValueError(f"the entry {name!r} before byte {end} holds no tensor")
    if dtype not in DTYPES:
        raise ValueError(f"tensor {name} has type {dtype!r}, expected one of {', '.join(DTYPES)}")
    if len(dims) > LARGEST_RANK or any(length >= 2**40 for length in dims):
        raise ValueError(f"tensor {name} has an impossible shape of {len(dims)} dimensions")
    return StoredTensor(name, file, DTYPES[dtype], tuple(dims), (content,))


def _dimensions(stream: BinaryIO, item: int | tuple[int, int]) -> list[int]:
    """One dimension, or several packed ones."""
    if isinstance(item, int):
        return [item]
    stream.seek(item[0])
    lengths: list[int] = []
    while stream.tell() < item[0] + item[1] and len(lengths) <= LARGEST_RANK:
        lengths.append(_varint(stream))
    return lengths


def write_mindspore(plans: Sequence[TensorPlan], file: Path, progress: Progress = no_progress) -> None:
    """Write a ``.ckpt`` that ``mindspore.load_checkpoint`` reads.

    A message is preceded by its length, so each tensor becomes one Value; MindSpore reads Values of any size below 2
    GB, the maximum of protobuf.

    Raises:
        UserError: a tensor is over 2 GB.
    """
    names = {short: long for long, short in DTYPES.items()}
    with open(file, "wb", buffering=0) as out:
        for plan in plans:
            if plan.nbytes >= 2**31 - 1024:
                raise UserError(f"tensor {plan.name} of {plan.nbytes / 1e9:.1f} GB is over 2 GB, .ckpt's limit", file)
            tensor = io.BytesIO()
            for length in plan.shape:
                tensor.write(b"\x08" + _encode(length))
            tensor.write(_prefixed(2, names[plan.dtype].encode()))
            tensor.write(b"\x1a" + _encode(plan.nbytes))
            tag = _prefixed(1, plan.name.encode())
            inner = len(tensor.getvalue()) + plan.nbytes
            head = tag + b"\x12" + _encode(inner)
            out.write(b"\x0a" + _encode(len(head) + inner) + head + tensor.getvalue())
            plan.write(out, progress)


def _encode(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _prefixed(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | BYTES]) + _encode(len(data)) + data
