"""The product with a weight of integers as an operator: values and gradients against float64."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from mindcoder.backend.quant_operators import QuantizedProduct

DTYPES = {"float32": (ms.float32, 2e-6), "bfloat16": (ms.bfloat16, 1e-2), "float16": (ms.float16, 2e-3)}
INPUTS, OUTPUTS = 192, 37


class WithGradient(nn.Cell):
    """The product, with the gradient that a weight method takes."""

    def __init__(self, *options) -> None:
        super().__init__(auto_prefix=False)
        self.own = QuantizedProduct(*options)

    def construct(self, x, weight, scale, offset):
        return self.own(x, weight, scale, offset)

    def bprop(self, x, weight, scale, offset, out, dout):
        return self.own.gradient(dout, weight, scale, offset), weight, scale, offset


class Symmetric(WithGradient):
    """Without offsets."""

    def construct(self, x, weight, scale):
        return self.own(x, weight, scale)

    def bprop(self, x, weight, scale, out, dout):
        return self.own.gradient(dout, weight, scale), weight, scale


class Weighted(nn.Cell):
    """A sum whose gradient at ``x`` is that of the result times ``weights``."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.cell = cell

    def construct(self, x, weights, *others):
        return (ops.cast(self.cell(x, *others), ms.float32) * weights).sum()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("group, lowered", [(0, False), (0, True), (32, False), (64, True)])
def test_value_and_gradient(bits, group, lowered, dtype, rng):
    half, groups = 2 ** (bits - 1), INPUTS // group if group else 1
    integers = rng.integers(-half, half, (OUTPUTS, INPUTS))
    scale = rng.uniform(0.5, 2, (OUTPUTS, groups)).astype(np.float32) / half
    offset = rng.integers(-half, half, (OUTPUTS, groups)).astype(np.float32) * lowered
    exact = (integers - np.repeat(offset, INPUTS // groups, 1)) * np.repeat(scale, INPUTS // groups, 1).astype(float)
    stored = integers.astype(np.int8)
    if bits == 4:
        unsigned = (integers + 8).astype(np.uint8)
        stored = np.ascontiguousarray(unsigned[:, ::2] | unsigned[:, 1::2] << 4)
    given = [Tensor(stored), Tensor(scale), *([Tensor(offset)] if lowered else [])]
    cell = (WithGradient if lowered else Symmetric)(bits, group, dtype)
    ours, tolerance = DTYPES[dtype]
    for rows in (1, 5, 40):
        x = Tensor(rng.standard_normal((rows, INPUTS)).astype(np.float32)).astype(ours)
        weights = Tensor(rng.standard_normal((rows, OUTPUTS)).astype(np.float32)).astype(ours).astype(ms.float32)
        expected = x.astype(ms.float32).asnumpy().astype(float) @ exact.T
        found = cell(x, *given)
        assert found.dtype == ours
        error = np.abs(found.astype(ms.float32).asnumpy() - expected).max()
        assert error < tolerance * np.abs(expected).max()
        gradient = ms.grad(Weighted(cell), 0)(x, weights, *given).astype(ms.float32).asnumpy()
        wanted = weights.asnumpy().astype(float) @ exact
        assert np.abs(gradient - wanted).max() < tolerance * np.abs(wanted).max()
