"""Integers of 8 or 4 bits to the numbers that they stand for."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.row_operators import LookUp


def nibble_pairs() -> np.ndarray:
    """The two numbers in every byte, float32 ``[256, 2]``: low nibble first, each in two's complement."""
    values = np.arange(256)
    pairs = np.stack([values & 15, values >> 4], 1)
    return np.where(pairs > 7, pairs - 16, pairs).astype(np.float32)


class Dequantize(nn.Cell):
    """``(weight - offset) * scale``, group by group: ``construct(weight, scale[, offset]) -> [out, in]``.

    ``weight`` is int8 ``[out, in]``, or two numbers a byte, uint8 ``[out, in / 2]``; ``scale`` and ``offset`` are
    float32 ``[out, groups]``, a column for each ``in / groups`` neighbouring inputs. Computed in float32 and rounded
    once. No gradient: its callers have their own.

    Args:
        bits: 8 or 4.
        compute_dtype: of the result, a name.
    """

    def __init__(self, bits: int, compute_dtype: str) -> None:
        super().__init__(auto_prefix=False)
        self.packed = bits == 4
        self.dtype = resolve_dtype(compute_dtype)
        self.pairs = Tensor(nibble_pairs())
        self.look_up, self.tile = LookUp(), ops.Tile()

    def construct(self, weight: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
        rows = scale.shape[0]
        if self.packed:
            # One look-up for each byte; shifts and masks of bytes have no kernel on every device.
            values = self.look_up(self.pairs, ops.cast(weight.reshape((-1,)), ms.int32))
        else:
            values = ops.cast(weight, ms.float32)
        size = weight.shape[1] * (2 if self.packed else 1) // scale.shape[1]
        # Of equal shapes: an operator that broadcasts keeps a table of four bytes an element on CPU.
        values = values.reshape((-1, size))
        if offset is not None:
            values = values - self.tile(offset.reshape((-1, 1)), (1, size))
        values = values * self.tile(scale.reshape((-1, 1)), (1, size))
        return ops.cast(values.reshape((rows, -1)), self.dtype)
