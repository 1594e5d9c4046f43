"""Kernels for CPU, composed from the operators that are fast there.

MindSpore's CPU kernels for LayerNorm, GeLU and their gradients take 5 to 50 times as long as PyTorch's, and every
broadcasting Add, Sub or Mul keeps an index table of four bytes an output element for the whole run. So the
gradients are written out, row sums and tilings replace broadcasts, and column sums are products with a row of ones.
`mindcoder.backend.fused` holds the same classes for Ascend.
"""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, nn, ops

from mindcoder.backend.composed_attention import AttentionMasks, CausalAttention
from mindcoder.backend.composed_rows import (
    AddBias,
    AddRows,
    Assign,
    AssignAdd,
    Cut,
    FoldBits,
    Fork,
    HalfSquareSum,
    LabelGradient,
    LargestPlace,
    LookUp,
    RowSum,
    WriteRows,
)
from mindcoder.backend.composed_update import AdamWUpdate

__all__ = [
    "AdamWUpdate",
    "AddBias",
    "AddRows",
    "Assign",
    "AssignAdd",
    "AttentionMasks",
    "CausalAttention",
    "Cut",
    "FoldBits",
    "Fork",
    "GeluExact",
    "GeluTanh",
    "HalfSquareSum",
    "LabelGradient",
    "LargestPlace",
    "LookUp",
    "NormalizeRootMeanSquare",
    "NormalizeRows",
    "QuickGelu",
    "RotatePairs",
    "RowSum",
    "SwiGLU",
    "WriteRows",
]

SQRT_2_OVER_PI = 0.7978845608028654
CUBIC = 0.044715
QUICK = 1.702
SQRT_HALF = 0.7071067811865476
NORMAL_DENSITY = 0.3989422804014327  # of the standard normal distribution at 0: 1 / sqrt(2 pi)


class NormalizeRows(nn.Cell):
    """LayerNorm over the last axis: ``(x - mean) / sqrt(var + epsilon) * weight + bias``.

    ``construct(x [R, H], weight [H], bias [H]) -> [R, H]``, all of one dtype.
    """

    def __init__(self, epsilon: float) -> None:
        super().__init__(auto_prefix=False)
        self.epsilon = epsilon
        self.row_mean = ops.ReduceMean(keep_dims=True)
        self.bias_add = ops.BiasAdd()
        self.matmul = ops.MatMul()
        self.ones = ops.Ones()
        self.tile = ops.Tile()

    def tile_column(self, column: Tensor, x: Tensor) -> Tensor:
        """``[R, 1] -> [R, H]``."""
        return self.tile(column, (1, x.shape[1]))

    def tile_row(self, row: Tensor, x: Tensor) -> Tensor:
        """``[H] -> [R, H]``, made when ``x`` is there rather than ahead of time and kept."""
        row = ops.depend(row, x)
        return self.tile(row.reshape((1, -1)), (x.shape[0], 1))

    def standardize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give the standardized rows ``[R, H]`` and the reciprocal standard deviation ``[R, H]``."""
        centered = x - self.tile_column(self.row_mean(x, -1), x)
        variance = self.row_mean(ops.square(centered), -1)
        scale = self.tile_column(ops.rsqrt(variance + self.epsilon), x)
        return centered * scale, scale

    def construct(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        standardized, _ = self.standardize(x)
        return self.bias_add(standardized * self.tile_row(weight, x), bias)

    def bprop(self, x, weight, bias, out, dout):
        # Standardizing again is cheaper than keeping more activations alive; `depend` stops the compiler from
        # merging it with the forward pass.
        x = ops.depend(x, dout)
        standardized, scale = self.standardize(x)
        ones = self.ones((1, x.shape[0]), x.dtype)
        grad_bias = self.matmul(ones, dout).reshape(bias.shape)
        grad_weight = self.matmul(ones, dout * standardized).reshape(weight.shape)
        weighted = dout * self.tile_row(weight, dout)
        projection = self.tile_column(self.row_mean(weighted * standardized, -1), x)
        mean = self.tile_column(self.row_mean(weighted, -1), x)
        return (weighted - mean - standardized * projection) * scale, grad_weight, grad_bias


class GeluTanh(nn.Cell):
    """GELU in its tanh form (HF ``gelu_pytorch_tanh``; Hendrycks and Gimpel 2016), element by element."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.tanh = ops.Tanh()

    def construct(self, x: Tensor) -> Tensor:
        inner = x * (ops.square(x) * (SQRT_2_OVER_PI * CUBIC) + SQRT_2_OVER_PI)
        half = x * 0.5
        return half + half * self.tanh(inner)

    def bprop(self, x, out, dout):
        return (self.gradient(ops.depend(x, dout), dout),)

    def gradient(self, x: Tensor, dout: Tensor) -> Tensor:
        """``dout * gelu'(x)``."""
        square = ops.square(x)
        tanh = self.tanh(x * (square * (SQRT_2_OVER_PI * CUBIC) + SQRT_2_OVER_PI))
        inner_slope = square * (1.5 * SQRT_2_OVER_PI * CUBIC) + 0.5 * SQRT_2_OVER_PI
        slope = tanh * 0.5 + 0.5 + x * inner_slope * (1.0 - ops.square(tanh))
        return dout * slope


class QuickGelu(nn.Cell):
    """``x * sigmoid(1.702 x)`` (Hendrycks and Gimpel 2016): HF ``quick_gelu``, MindSpore's and MindFormers' FastGeLU.

    MindSpore writes it as ``x / (1 + exp(-1.702 |x|)) * exp(0.851 (x - |x|))``, which is the same number.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.sigmoid = ops.Sigmoid()

    def construct(self, x: Tensor) -> Tensor:
        return x * self.sigmoid(x * QUICK)

    def bprop(self, x, out, dout):
        return (self.gradient(ops.depend(x, dout), dout),)

    def gradient(self, x: Tensor, dout: Tensor) -> Tensor:
        """``dout`` times the derivative at ``x``."""
        gate = self.sigmoid(x * QUICK)
        return dout * gate * (1.0 + x * QUICK * (1.0 - gate))


class GeluExact(nn.Cell):
    """``x * Phi(x)`` with the normal distribution's own Phi (HF ``gelu``; Hendrycks and Gimpel 2016)."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.erf, self.exp = ops.Erf(), ops.Exp()

    def construct(self, x: Tensor) -> Tensor:
        half = x * 0.5
        return half + half * self.erf(x * SQRT_HALF)

    def bprop(self, x, out, dout):
        return (self.gradient(ops.depend(x, dout), dout),)

    def gradient(self, x: Tensor, dout: Tensor) -> Tensor:
        """``dout`` times the derivative at ``x``."""
        phi = self.erf(x * SQRT_HALF) * 0.5 + 0.5
        return dout * (phi + x * self.exp(ops.square(x) * -0.5) * NORMAL_DENSITY)


class NormalizeRootMeanSquare(nn.Cell):
    """RMSNorm over the last axis: ``x / sqrt(mean(x²) + epsilon) * weight``.

    ``construct(x [R, H], weight [H]) -> [R, H]``, both of one dtype.
    """

    def __init__(self, epsilon: float) -> None:
        super().__init__(auto_prefix=False)
        self.epsilon = epsilon
        self.row_mean = ops.ReduceMean(keep_dims=True)
        self.matmul = ops.MatMul()
        self.ones = ops.Ones()
        self.tile = ops.Tile()

    def scale(self, x: Tensor) -> Tensor:
        """The reciprocal root mean square of each row, ``[R, H]``."""
        return self.tile(ops.rsqrt(self.row_mean(ops.square(x), -1) + self.epsilon), (1, x.shape[1]))

    def tile_row(self, row: Tensor, x: Tensor) -> Tensor:
        """``[H] -> [R, H]``, made when ``x`` is there rather than ahead of time and kept."""
        return self.tile(ops.depend(row, x).reshape((1, -1)), (x.shape[0], 1))

    def construct(self, x: Tensor, weight: Tensor) -> Tensor:
        return x * self.scale(x) * self.tile_row(weight, x)

    def bprop(self, x, weight, out, dout):
        x = ops.depend(x, dout)  # normalize again, see NormalizeRows
        scale = self.scale(x)
        normalized = x * scale
        ones = self.ones((1, x.shape[0]), x.dtype)
        grad_weight = self.matmul(ones, dout * normalized).reshape(weight.shape)
        weighted = dout * self.tile_row(weight, dout)
        projection = self.tile(self.row_mean(weighted * normalized, -1), (1, x.shape[1]))
        return (weighted - normalized * projection) * scale, grad_weight


class SwiGLU(nn.Cell):
    """``silu(gate) * up`` (Shazeer 2020), element by element."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.sigmoid = ops.Sigmoid()

    def construct(self, gate: Tensor, up: Tensor) -> Tensor:
        return gate * self.sigmoid(gate) * up

    def gradient(self, gate: Tensor, up: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of ``gate`` and ``up``."""
        sigmoid = self.sigmoid(gate)
        silu = gate * sigmoid
        return dout * up * (sigmoid + silu * (1.0 - sigmoid)), dout * silu


class RotatePairs(nn.Cell):
    """Rotary embedding of heads in rows: element i pairs with i + D/2 (Su et al. 2021 in GPT-NeoX's layout).

    ``construct(x [R, D], cos, sin) -> [R, D]`` with R = T * heads, and what `per_head` gives. The exchange of
    halves is a product with a signed permutation: a matrix product of D columns costs less on CPU than slicing and
    joining.
    """

    def __init__(self, head_dim: int) -> None:
        super().__init__(auto_prefix=False)
        half = head_dim // 2
        swap = np.zeros((head_dim, head_dim), np.float32)
        swap[np.arange(half) + half, np.arange(half)] = -1.0
        swap[np.arange(half), np.arange(half) + half] = 1.0
        self.swap = Tensor(swap)
        self.exchange = ops.MatMul()
        self.exchange_back = ops.MatMul(transpose_b=True)

    def per_head(self, values: Tensor, heads: int) -> Tensor:
        """A token's cosines or sines as ``construct`` wants them: ``[T, D]`` once for each head, ``[T*heads, D]``."""
        return ops.tile(values, (1, heads)).reshape((-1, values.shape[1]))

    def construct(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return x * cos + self.exchange(x, ops.cast(self.swap, x.dtype)) * sin

    def bprop(self, x, cos, sin, out, dout):
        grad = dout * cos + self.exchange_back(dout * sin, ops.cast(self.swap, x.dtype))
        return grad, ops.zeros_like(cos), ops.zeros_like(sin)
