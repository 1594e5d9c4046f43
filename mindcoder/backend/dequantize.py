"""Integers of 8 or 4 bits to the numbers that they stand for."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.row_operators import LookUp

ADDED = 8  # to numbers of 4 bits, so that they are stored without a sign


def nibble_pairs() -> np.ndarray:
    """The two numbers in every byte, float32 ``[256, 2]``, that of the low nibble first."""
    values = np.arange(256)
    return np.stack([values & 15, values >> 4], 1).astype(np.float32) - ADDED


class Bytes(nn.Cell):
    """int8 of any shape as float32."""

    def construct(self, weight: Tensor) -> Tensor:
        return ops.cast(weight, ms.float32)


class Nibbles(nn.Cell):
    """Two numbers a byte, uint8 ``[rows, columns]``, as float32 ``[rows * columns, 2]``.

    One look-up for each byte; shifts and masks of bytes have no kernel on every device.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.pairs, self.look_up = Tensor(nibble_pairs()), LookUp()

    def construct(self, weight: Tensor) -> Tensor:
        return self.look_up(self.pairs, ops.cast(weight.reshape((-1,)), ms.int32))


class Dequantize(nn.Cell):
    """``weight * scale``, group by group: ``construct(weight, scale) -> [out, in]``.

    ``weight`` is int8 ``[out, in]``, or two numbers a byte, uint8 ``[out, in / 2]``; ``scale`` is float32
    ``[out, groups]``, a column for each ``in / groups`` neighbouring inputs. Computed in float32 and rounded once. No
    gradient: its callers have their own.

    No branches, and no sizes but those given here: within a ``bprop`` MindSpore compiles neither.

    Args:
        shape: outputs, inputs, and groups.
        bits: 8 or 4.
        compute_dtype: of the result, a name.
    """

    def __init__(self, shape: tuple[int, int, int], bits: int, compute_dtype: str) -> None:
        super().__init__(auto_prefix=False)
        outputs, inputs, groups = shape
        self.dtype = resolve_dtype(compute_dtype)
        self.numbers = Nibbles() if bits == 4 else Bytes()
        self.matrix, self.grouped = (outputs, inputs), (outputs * groups, inputs // groups)
        self.column, self.repeats = (outputs * groups, 1), (1, inputs // groups)
        self.tile = ops.Tile()

    def construct(self, weight: Tensor, scale: Tensor) -> Tensor:
        values = self.numbers(weight).reshape(self.grouped) * self.spread(scale)
        return ops.cast(values.reshape(self.matrix), self.dtype)

    def spread(self, values: Tensor) -> Tensor:
        """Of every group to its inputs: an operator that broadcasts keeps a table of four bytes an element on CPU."""
        return self.tile(values.reshape(self.column), self.repeats)


class DequantizeLowered(Dequantize):
    """``(weight - offset) * scale``: ``construct(weight, scale, offset)``, otherwise as `Dequantize`."""

    def construct(self, weight: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        values = self.numbers(weight).reshape(self.grouped) - self.spread(offset)
        return ops.cast((values * self.spread(scale)).reshape(self.matrix), self.dtype)
