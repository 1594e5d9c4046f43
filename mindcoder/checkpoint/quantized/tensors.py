"""A quantized linear layer as its files hold it, and the weight that its integers stand for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindcoder.checkpoint.quantized.packing import unpack_nibbles
from mindcoder.checkpoint.stored_tensor import StoredTensor, convert_dtype

BLOCK_ELEMENTS = 1 << 20  # numbers computed at once


def row_blocks(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Begin and end of ranges of rows with about `BLOCK_ELEMENTS` numbers."""
    step = max(BLOCK_ELEMENTS // max(math.prod(shape[1:]), 1), 1)
    for begin in range(0, shape[0], step):
        yield begin, min(begin + step, shape[0])


@dataclass(frozen=True)
class ReformedTensor(StoredTensor):
    """A tensor whose values are kept in another form than its file's.

    Attributes:
        base: in the file.
        reform: from the file's values to these.
        by_rows: whether each row follows from the same row of the file alone.
    """

    base: StoredTensor | None = None
    reform: Callable[[np.ndarray], np.ndarray] | None = None
    by_rows: bool = True

    @property
    def is_plain(self) -> bool:
        """Always False: these values exist only in memory."""
        return False

    def read(self) -> np.ndarray:
        """All values."""
        assert self.base is not None and self.reform is not None
        return np.ascontiguousarray(self.reform(self.base.read()))

    def read_part(self, axis: int, begin: int, end: int) -> np.ndarray:
        """Indices ``begin`` to ``end`` of an axis; rows without the others where they do not need them."""
        assert self.base is not None and self.reform is not None
        if axis == 0 and self.by_rows:
            return np.ascontiguousarray(self.reform(self.base.read_part(0, begin, end)))
        return super().read_part(axis, begin, end)


def reformed(
    base: StoredTensor,
    dtype: str,
    shape: tuple[int, ...],
    reform: Callable[[np.ndarray], np.ndarray],
    by_rows: bool = True,
) -> ReformedTensor:
    """A `ReformedTensor` of dtype and shape."""
    return ReformedTensor(base.name, base.file, dtype, shape, base=base, reform=reform, by_rows=by_rows)


@dataclass(frozen=True)
class QuantizedTensor:
    """The weight of a linear layer in integers: ``(weight - offset) * scale``.

    Attributes:
        weight: int8 ``[out, in]``, or two numbers a byte, uint8 ``[out, in / 2]``, see
            `mindcoder.models.methods.weight_only.WeightOnly`.
        scale: ``[out, groups]``, of any float dtype.
        offset: ``[out, groups]``; None if it is zero.
    """

    weight: StoredTensor
    scale: StoredTensor
    offset: StoredTensor | None = None

    @property
    def bits(self) -> int:
        """Of a number."""
        return 4 if self.weight.dtype == "U8" else 8

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        rows, columns = self.weight.shape
        return rows, columns * 8 // self.bits

    @property
    def group_size(self) -> int:
        """Inputs that share a scale; 0 if all of an output do."""
        return 0 if self.scale.shape[1] == 1 else self.shape[1] // self.scale.shape[1]

    def as_weight(self, name: str) -> DequantizedTensor:
        """The weight in floating point."""
        return DequantizedTensor(name, self.weight.file, "F32", self.shape, quantized=self)


@dataclass(frozen=True)
class DequantizedTensor(StoredTensor):
    """The weight that integers stand for, float32, computed when it is read.

    Attributes:
        quantized: the integers.
    """

    quantized: QuantizedTensor | None = None

    @property
    def files(self) -> frozenset[Path]:
        """The files of integers, scales and offsets."""
        assert self.quantized is not None
        parts = (self.quantized.weight, self.quantized.scale, self.quantized.offset)
        return frozenset(file for part in parts if part is not None for file in part.files)

    @property
    def is_plain(self) -> bool:
        """Always False: these values exist only in memory."""
        return False

    def read(self) -> np.ndarray:
        """The whole weight."""
        values = np.empty(self.shape, np.float32)
        for begin, end in row_blocks(self.shape):
            values[begin:end] = self._rows(begin, end)
        return values

    def read_part(self, axis: int, begin: int, end: int) -> np.ndarray:
        """Indices ``begin`` to ``end`` of an axis; rows without the others."""
        return self._rows(begin, end) if axis == 0 else super().read_part(axis, begin, end)

    def _rows(self, begin: int, end: int) -> np.ndarray:
        assert self.quantized is not None
        tensor = self.quantized
        numbers = tensor.weight.read_part(0, begin, end)
        if tensor.bits == 4:
            numbers = unpack_nibbles(numbers)
        values = numbers.astype(np.float32).reshape(len(numbers), tensor.scale.shape[1], -1)
        if tensor.offset is not None:
            values -= _rows_of(tensor.offset, begin, end)[:, :, None]
        values *= _rows_of(tensor.scale, begin, end)[:, :, None]
        return values.reshape(len(numbers), -1)


def _rows_of(tensor: StoredTensor, begin: int, end: int) -> np.ndarray:
    return convert_dtype(tensor.read_part(0, begin, end), tensor.dtype, "F32")
