"""Products with weights of integers, of operators that a MindIR file can name; see `portable_operators`.

MindSpore has no product of integers on every device. The integers are multiplied as floats: what a graph keeps, and
what is written into its file, stays in 8 bits.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops

LARGEST, SMALLEST = 127.0, 1e-30  # of a token's integers; a magnitude by which a token of zeros can be divided
LOWEST = -128.0


class _Product(nn.Cell):
    """What both forms below share: scales of rows and columns after the product, in float32."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.product, self.tile = ops.MatMul(transpose_b=True), ops.Tile()

    def multiply(self, x: Tensor, weight: Tensor) -> Tensor:
        """``x @ weight.T`` of floats and int8, float32 ``[Q, out]``."""
        return self.product(ops.cast(x, ms.float32), ops.cast(weight, ms.float32))

    def by_output(self, numbers: Tensor, rows: int) -> Tensor:
        """``[out]`` for each of the rows: ``[rows, out]``."""
        return self.tile(numbers.reshape((1, -1)), (rows, 1))

    def by_row(self, numbers: Tensor, columns: int) -> Tensor:
        """``[rows, 1]`` for each of the columns."""
        return self.tile(numbers, (1, columns))


class WeightOnlyProduct(_Product):
    """``construct(x [Q, in], weight int8 [out, in], scale [out, 1], offset) -> [Q, out]`` in x's dtype.

    An integer stands for ``(q - offset) * scale``; offset is ``[out, 1]`` or None.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = ops.ReduceSum(keep_dims=True)

    def construct(self, x: Tensor, weight: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
        rows, outputs = x.shape[0], weight.shape[0]
        sums = self.multiply(x, weight)
        if offset is not None:
            totals = self.total(ops.cast(x, ms.float32), 1)
            sums = sums - self.by_row(totals, outputs) * self.by_output(offset, rows)
        return ops.cast(sums * self.by_output(scale, rows), x.dtype)


class IntegerProduct(_Product):
    """`mindcoder.backend.int8_operators.Int8Product`: the sums of integers are exact up to 2^24, rounded beyond."""

    def __init__(self) -> None:
        super().__init__()
        self.whole, self.largest = ops.Round(), ops.ReduceMax(keep_dims=True)

    def construct(self, x: Tensor, weight: Tensor, scale: Tensor, rounding: tuple) -> Tensor:
        rows, outputs = x.shape[0], weight.shape[0]
        values = ops.cast(x, ms.float32)
        if len(rounding) == 0:
            step = ops.maximum(self.largest(ops.abs(values), 1), SMALLEST) / LARGEST
            sums = self.multiply(self.whole(values / self.by_row(step, x.shape[1])), weight)
            return ops.cast(sums * self.by_output(scale, rows) * self.by_row(step, outputs), x.dtype)
        inverse, step, offset, added = rounding
        numbers = self.whole(ops.minimum(ops.maximum(values * inverse + offset, LOWEST), LARGEST))
        sums = self.multiply(numbers, weight) + self.by_output(ops.cast(added, ms.float32), rows)
        return ops.cast(sums * self.by_output(scale, rows) * step, x.dtype)
