"""A tensor in a file: read it, convert it, or copy its bytes without ever holding it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mindcoder.errors import UserError

# Dtypes by their safetensors names. numpy lacks bfloat16: its bits are kept as uint16.
NUMPY_DTYPES: dict[str, type[np.generic]] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")
LARGEST = {"F16": 65504.0, "BF16": 3.3895e38, "F32": 3.4028e38}
COPY_BYTES = 64 * 1024 * 1024
CONVERT_ELEMENTS = 16 * 1024 * 1024

Progress = Callable[[int], object]  # called with the number of bytes done


def no_progress(count: int) -> None:
    """For callers without a progress bar."""


def item_size(dtype: str) -> int:
    """Size of one element in bytes."""
    return np.dtype(NUMPY_DTYPES[dtype]).itemsize


def byte_count(shape: tuple[int, ...], dtype: str) -> int:
    """Size of a tensor in bytes."""
    return math.prod(shape) * item_size(dtype)


def convert_dtype(values: np.ndarray, source: str, target: str) -> np.ndarray:
    """Convert the dtype; bfloat16 is rounded to nearest even, as everywhere else."""
    if source == target:
        return values
    if source == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    if target != "BF16":
        return values.astype(NUMPY_DTYPES[target])
    single = np.ascontiguousarray(values, np.float32)
    bits = single.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(single), np.uint16(0x7FC0), rounded)


def convert_finite(values: np.ndarray, source: str, target: str, name: str) -> np.ndarray:
    """As `convert_dtype`, but no finite number becomes infinite.

    Raises:
        UserError: one would; says that it is in the tensor ``name``.
    """
    if source == target or source not in FLOAT_DTYPES or target not in LARGEST:
        return convert_dtype(values, source, target)
    with np.errstate(over="ignore"):
        converted = convert_dtype(values, source, target)
    given = convert_dtype(values, source, "F32") if source == "BF16" else values
    infinite = ~np.isfinite(convert_dtype(converted, target, "F32") if target == "BF16" else converted)
    if infinite.any():
        lost = given[infinite & np.isfinite(given)]
        if lost.size:
            raise UserError(
                f"{name}: found {lost[0]:.6g}, expected at most {LARGEST[target]:.5g}, the largest number of {target}"
            )
    return converted


@dataclass(frozen=True)
class StoredTensor:
    """Location and type of a tensor in a file.

    Attributes:
        name: in its file.
        file: that file.
        dtype: safetensors name, such as ``F16``.
        shape: of the tensor.
        extents: (offset, bytes) pieces of the file whose concatenation is the tensor in row-major order.
        strides: in elements, if the bytes are not in row-major order.
        loaded: the values, if a file cannot be read piecewise.
    """

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    extents: tuple[tuple[int, int], ...] = ()
    strides: tuple[int, ...] | None = None
    loaded: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Size of the tensor in bytes."""
        return byte_count(self.shape, self.dtype)

    @property
    def files(self) -> frozenset[Path]:
        """The files that determine its values."""
        return frozenset({self.file})

    @property
    def stored_as(self) -> str:
        """Name of the type in the file, which may have to be decoded to ``dtype``."""
        return self.dtype

    @property
    def is_plain(self) -> bool:
        """Whether its bytes are in the file in row-major order."""
        return self.loaded is None and self.strides is None

    def read(self) -> np.ndarray:
        """The values (bfloat16 as uint16 bits)."""
        if self.loaded is not None:
            return self.loaded
        with open(self.file, "rb", buffering=0) as stream:
            if len(self.extents) == 1:
                offset, count = self.extents[0]
                stream.seek(offset)
                flat = np.fromfile(stream, NUMPY_DTYPES[self.dtype], count // item_size(self.dtype))
            else:
                flat = np.concatenate([_read_bytes(stream, *extent) for extent in self.extents] or [np.zeros(0, "u1")])
                flat = flat.view(NUMPY_DTYPES[self.dtype])
        if self.strides is None:
            return flat.reshape(self.shape)
        steps = tuple(step * flat.itemsize for step in self.strides)
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(flat, self.shape, steps))

    def read_part(self, axis: int, begin: int, end: int) -> np.ndarray:
        """Indices ``begin`` to ``end`` of an axis; in row-major order no others are held in memory."""
        index = (*(slice(None) for _ in range(axis)), slice(begin, end))
        if not self.is_plain or len(self.extents) != 1 or not self.nbytes:
            return np.ascontiguousarray(self.read()[index])
        return np.array(np.memmap(self.file, NUMPY_DTYPES[self.dtype], "r", self.extents[0][0], self.shape)[index])

    def chunks(self) -> Iterator[np.ndarray]:
        """The values in row-major order, as flat pieces."""
        if not self.is_plain:
            yield self.read().reshape(-1)
            return
        size = item_size(self.dtype)
        with open(self.file, "rb", buffering=0) as stream:
            for offset, count in self.extents:
                for start in range(0, count, CONVERT_ELEMENTS * size):
                    piece = _read_bytes(stream, offset + start, min(CONVERT_ELEMENTS * size, count - start))
                    yield piece.view(NUMPY_DTYPES[self.dtype])

    def copy_bytes(self, out: BinaryIO, limit: int, progress: Progress = no_progress) -> None:
        """Append the first ``limit`` bytes to ``out`` (unbuffered) inside the kernel; requires `is_plain`."""
        with open(self.file, "rb", buffering=0) as stream:
            for offset, count in self.extents:
                count = min(count, limit)
                limit -= count
                while count > 0:
                    sent = os.sendfile(out.fileno(), stream.fileno(), offset, min(count, COPY_BYTES))
                    if sent == 0:
                        raise OSError(f"{self.file} ends before tensor {self.name}")
                    offset, count = offset + sent, count - sent
                    progress(sent)


def _read_bytes(stream: BinaryIO, offset: int, count: int) -> np.ndarray:
    stream.seek(offset)
    return np.fromfile(stream, np.uint8, count)
