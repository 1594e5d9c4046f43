"""A linear layer in NF4 as bitsandbytes' files hold it, and the weight that its codes stand for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mindcoder.backend.nf4 import NestedScales, to_numbers
from mindcoder.checkpoint.quantized.tensors import DequantizedTensor, reformed, require_finite, row_blocks
from mindcoder.checkpoint.stored_tensor import StoredTensor, convert_dtype
from mindcoder.families.parameter_names import ABSMAX, NESTED_ABSMAX, NESTED_OFFSET


@dataclass(frozen=True)
class Nf4Tensor:
    """The weight of a linear layer in codes, in row-major order.

    Attributes:
        shape: outputs and inputs.
        block: numbers that share a scale.
        weight: uint8, two codes a byte, the first in the high half; of any shape.
        absmax: scales, in float32 or uint8; of any shape.
        nested_absmax: of 256 scales in uint8, float32; None with scales in floating point.
        nested_offset: added to each scale in uint8.
    """

    shape: tuple[int, int]
    block: int
    weight: StoredTensor
    absmax: StoredTensor
    nested_absmax: StoredTensor | None = None
    nested_offset: float = 0.0

    group_size = 0  # blocks always have one, so the kind does not say it
    input = None  # activations stay floats

    @property
    def kind(self) -> str:
        """``NF4``; empty if blocks go beyond rows: the network keeps such a weight in floating point."""
        return "" if self.shape[1] % self.block else "NF4"

    def parts(self, is_whole: bool) -> dict[str, StoredTensor]:
        """As of `mindcoder.checkpoint.quantized.tensors.QuantizedTensor`; parts of rows have scales in float32."""
        outputs, blocks = self.shape[0], self.shape[1] // self.block
        codes = _in_form(self.weight, (outputs, self.shape[1] // 2))
        if self.nested_absmax is None:
            return {"weight": codes, ABSMAX: _in_form(self.absmax, (outputs, blocks))}
        if not is_whole:
            expanded = StoredTensor(self.absmax.name, self.absmax.file, "F32", (outputs, blocks), loaded=self.scales())
            return {"weight": codes, ABSMAX: expanded}
        offset = np.array([self.nested_offset], np.float32)
        return {
            "weight": codes,
            ABSMAX: _in_form(self.absmax, (outputs, blocks)),
            NESTED_ABSMAX: self.nested_absmax,
            NESTED_OFFSET: StoredTensor(f"{self.absmax.name}.offset", self.absmax.file, "F32", (1,), loaded=offset),
        }

    def scales(self) -> np.ndarray:
        """Of all blocks, float32 ``[outputs, blocks of an output]``; flat if blocks go beyond rows.

        Raises:
            UserError: one is not finite.
        """
        stored = self.absmax.read()
        if self.nested_absmax is None:
            found = convert_dtype(stored, self.absmax.dtype, "F32")
        else:
            found = NestedScales(stored, self.nested_absmax.read(), np.float32(self.nested_offset)).expanded()
        require_finite(found, self.absmax)
        return found.reshape(self.shape[0], -1) if self.kind else found.reshape(-1)

    def as_weight(self, name: str) -> Nf4Weight:
        """The weight in floating point."""
        return Nf4Weight(name, self.weight.file, "F32", self.shape, tensor=self)


@dataclass(frozen=True)
class Nf4Weight(DequantizedTensor):
    """The weight that codes stand for, float32, computed when it is read."""

    tensor: Nf4Tensor | None = None

    @property
    def files(self) -> frozenset[Path]:
        """The files of codes and scales."""
        assert self.tensor is not None
        parts = (self.tensor.weight, self.tensor.absmax, self.tensor.nested_absmax)
        return frozenset(file for part in parts if part is not None for file in part.files)

    def read(self) -> np.ndarray:
        """The whole weight."""
        return self._rows(0, self.shape[0])

    def read_part(self, axis: int, begin: int, end: int) -> np.ndarray:
        """Indices ``begin`` to ``end`` of an axis; rows without the others."""
        assert self.tensor is not None
        if axis != 0 or not self.tensor.kind:
            return StoredTensor.read_part(self, axis, begin, end)
        return self._rows(begin, end)

    def _rows(self, first: int, last: int) -> np.ndarray:
        assert self.tensor is not None
        tensor, scales = self.tensor, self.tensor.scales()
        if not tensor.kind:
            numbers = to_numbers(tensor.weight.read().reshape(1, -1)).reshape(-1)[: self.shape[0] * self.shape[1]]
            return (numbers * np.repeat(scales, tensor.block)[: len(numbers)]).reshape(self.shape)
        codes = tensor.parts(True)["weight"]
        values = np.empty((last - first, self.shape[1]), np.float32)
        for begin, end in row_blocks(values.shape):
            own = to_numbers(codes.read_part(0, first + begin, first + end))
            own = own.reshape(end - begin, -1, tensor.block)
            own *= scales[first + begin : first + end, :, None]
            values[begin:end] = own.reshape(end - begin, -1)
        return values


def _in_form(stored: StoredTensor, shape: tuple[int, ...]) -> StoredTensor:
    """The same values, in the same order, in another shape."""
    if stored.is_plain or stored.loaded is not None:
        loaded = None if stored.loaded is None else stored.loaded.reshape(shape)
        return replace(stored, shape=shape, loaded=loaded)
    return reformed(stored, stored.dtype, shape, lambda values: values.reshape(shape), row_wise=False)
