"""A quantized linear layer as its files hold it, and the weight that its integers stand for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from mindcoder.checkpoint.quantized.format import method_name
from mindcoder.checkpoint.quantized.packing import unpack_nibbles
from mindcoder.checkpoint.stored_tensor import StoredTensor, convert_dtype
from mindcoder.errors import UserError
from mindcoder.families.parameter_names import OFFSET, SCALE

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
        row_wise: whether each row follows from the same row of the file alone.
    """

    base: StoredTensor | None = None
    reform: Callable[[np.ndarray], np.ndarray] | None = None
    row_wise: bool = True

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
        if axis == 0 and self.row_wise:
            return np.ascontiguousarray(self.reform(self.base.read_part(0, begin, end)))
        return super().read_part(axis, begin, end)


def reformed(
    base: StoredTensor,
    dtype: str,
    shape: tuple[int, ...],
    reform: Callable[[np.ndarray], np.ndarray],
    row_wise: bool = True,
) -> ReformedTensor:
    """A `ReformedTensor` of dtype and shape."""
    return ReformedTensor(base.name, base.file, dtype, shape, base=base, reform=reform, row_wise=row_wise)


@dataclass(frozen=True)
class QuantizedTensor:
    """The weight of a linear layer in integers: ``(weight - offset) * scale``.

    Attributes:
        weight: int8 ``[out, in]``, or two numbers a byte, uint8 ``[out, in / 2]``, see
            `mindcoder.models.methods.weight_only.WeightOnly`.
        scale: ``[out, groups]``, of any float dtype.
        offset: ``[out, groups]``; None if it is zero.
        order: int32 ``[in]``, the group of each input, where groups are not neighbouring inputs; the network keeps such
            weights in floating point.
        input: float32 ``[2]``, scale and offset of activations, zeros if each token has its own; None if they stay in
            floating point.
        activations: as of `mindcoder.checkpoint.quantized.format.Integers`.
        is_sparse: whether most numbers fit into 4 bits (W8A8S), which changes nothing here.
    """

    weight: StoredTensor
    scale: StoredTensor
    offset: StoredTensor | None = None
    order: StoredTensor | None = None
    input: StoredTensor | None = None
    activations: str = ""
    is_sparse: bool = False

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

    @property
    def kind(self) -> str:
        """How the network keeps it: ``W8A16``; empty: in floating point."""
        return "" if self.order is not None else method_name(self.bits, self.activations, self.is_sparse)

    def parts(self, is_whole: bool) -> dict[str, StoredTensor]:
        """The tensors that the network keeps, by their names within a layer, in the order of their outputs.

        Args:
            is_whole: whether one layer has all of them, else parts of their rows.
        """
        named = {"weight": self.weight, SCALE: self.scale}
        return named if self.offset is None else {**named, OFFSET: self.offset}

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
        tensor = self.quantized
        parts = (tensor.weight, tensor.scale, tensor.offset, tensor.order)
        return frozenset(file for part in parts if part is not None for file in part.files)

    @property
    def is_plain(self) -> bool:
        """Always False: these values exist only in memory."""
        return False

    def read(self) -> np.ndarray:
        """The whole weight."""
        tensor = self._tensor
        numbers, scale, offset = tensor.weight.read(), _single(tensor.scale), _single(tensor.offset)
        values = np.empty(self.shape, np.float32)
        for begin, end in row_blocks(self.shape):
            lowered = None if offset is None else offset[begin:end]
            values[begin:end] = self._values(numbers[begin:end], scale[begin:end], lowered)
        return values

    def read_part(self, axis: int, begin: int, end: int) -> np.ndarray:
        """Indices ``begin`` to ``end`` of an axis; rows without the others."""
        if axis != 0:
            return super().read_part(axis, begin, end)
        tensor = self._tensor
        numbers = tensor.weight.read_part(0, begin, end)
        return self._values(numbers, _single(tensor.scale, begin, end), _single(tensor.offset, begin, end))

    @property
    def _tensor(self) -> QuantizedTensor:
        assert self.quantized is not None
        return self.quantized

    def _values(self, numbers: np.ndarray, scale: np.ndarray, offset: np.ndarray | None) -> np.ndarray:
        """Rows of the weight from the same rows of its tensors."""
        tensor = self._tensor
        if tensor.bits == 4:
            numbers = unpack_nibbles(numbers)
        values = numbers.astype(np.float32)
        if tensor.order is not None:
            groups = tensor.order.read()
            return (values if offset is None else values - offset[:, groups]) * scale[:, groups]
        grouped = values.reshape(*scale.shape, -1)
        if offset is not None:
            grouped -= offset[:, :, None]
        grouped *= scale[:, :, None]
        return grouped.reshape(len(values), -1)


@overload
def _single(tensor: StoredTensor, begin: int = 0, end: int | None = None) -> np.ndarray: ...
@overload
def _single(tensor: StoredTensor | None, begin: int = 0, end: int | None = None) -> np.ndarray | None: ...
def _single(tensor: StoredTensor | None, begin: int = 0, end: int | None = None) -> np.ndarray | None:
    """Rows of a tensor in float32."""
    if tensor is None:
        return None
    rows = tensor.read() if end is None else tensor.read_part(0, begin, end)
    return require_finite(convert_dtype(rows, tensor.dtype, "F32"), tensor)


def require_finite(values: np.ndarray, tensor: StoredTensor) -> np.ndarray:
    """``values``, scales or offsets of ``tensor``.

    Raises:
        UserError: one is not finite.
    """
    finite = np.isfinite(values)
    if not finite.all():
        raise UserError(f"{tensor.name}: found {values[~finite][0]}, expected finite numbers", tensor.file)
    return values
