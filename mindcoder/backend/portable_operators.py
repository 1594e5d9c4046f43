"""The operators of a decoding layer as compositions of what MindSpore and MindSpore Lite have on every device.

A graph can be exported as MindIR if all of its operators are MindSpore's own: the ``ops.Custom`` operators of
`mindcoder.backend.operator_source` name a library of this machine and infer their shapes in Python. Each class here has
the arguments of the operator of its name there, as far as generation uses them, and no gradient.

Operands are tiled before they meet: an element-wise operator of MindSpore that broadcasts keeps an index table of four
bytes an element as long as its graph lives. Equal tiles of several layers are computed once.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

HIDDEN = -1e30  # added to the scores of keys that are not seen; their probabilities are exactly zero


def mat_mul(transpose_a: bool = False, transpose_b: bool = False, rounds: bool = False) -> Any:
    """MindSpore's MatMul; ``rounds`` is for a processor with a bfloat16 unit, and has no effect here."""
    return ops.MatMul(transpose_a, transpose_b)


class LayerNormExt(nn.Cell):
    """``construct(x [Q, H], (H,), weight, bias, epsilon) -> (y, mean, rstd)``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)

    def construct(self, x: Tensor, shape: tuple, weight: Tensor, bias: Tensor, epsilon: float) -> tuple:
        return ops.LayerNorm(1, 1, epsilon)(x, weight, bias)


class RmsNorm(nn.Cell):
    """``construct(x [Q, H], weight [H]) -> (y, rstd [Q, 1])``."""

    def __init__(self, epsilon: float) -> None:
        super().__init__(auto_prefix=False)
        self.epsilon = epsilon
        self.mean, self.tile, self.root = ops.ReduceMean(keep_dims=True), ops.Tile(), ops.Rsqrt()

    def construct(self, x: Tensor, weight: Tensor) -> tuple:
        rows, size = x.shape
        rstd = self.root(self.mean(x * x, 1) + self.epsilon)
        weights = self.tile(weight.reshape((1, size)), (rows, 1))
        return x * self.tile(rstd, (1, size)) * weights, rstd


class SiLU(nn.Cell):
    """``construct(x) -> x``: ``x * sigmoid(x)``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.sigmoid = ops.Sigmoid()

    def construct(self, x: Tensor) -> Tensor:
        return x * self.sigmoid(x)


class RotaryPositionEmbedding(nn.Cell):
    """``construct(x [1, Q, N, D], cos [1, Q, 1, D], sin, mode) -> [1, Q, N, D]``: element i pairs with i + D/2."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.halves, self.join, self.tile, self.negate = ops.Split(3, 2), ops.Concat(3), ops.Tile(), ops.Neg()

    def construct(self, x: Tensor, cos: Tensor, sin: Tensor, mode: int) -> Tensor:
        first, second = self.halves(x)
        rotated_half = self.join((self.negate(second), first))
        heads = (1, 1, x.shape[2], 1)
        return x * self.tile(cos, heads) + rotated_half * self.tile(sin, heads)


class IndexSelect(nn.Cell):
    """``construct(x, axis, index) -> x`` at those indices of the axis."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.gather = ops.Gather()

    def construct(self, x: Tensor, axis: int, index: Tensor) -> Tensor:
        return self.gather(x, index, axis)


class InplaceIndexCopy(nn.Cell):
    """``construct(table, 0, index, rows)`` writes the rows; what it gives is only to be waited for."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.update = ops.ScatterUpdate()

    def construct(self, table: Parameter, axis: int, index: Tensor, rows: Tensor) -> Tensor:
        return self.update(table, index, rows)


class FlashAttentionScore(nn.Cell):
    """``construct(query, key, value, None, None, None, mask, None, None, None) -> (_, _, _, out)``.

    Layout BSH with a mask ``[B, 1, S, T]``, 1 = hidden; all of a step's scores are in memory.

    Args:
        heads, scale: query heads, and the factor of the scores; the others are those of a kernel.
    """

    def __init__(
        self, heads: int, keep: float, scale: float, before: int, after: int, precise: int, layout: str, mode: int
    ) -> None:
        super().__init__(auto_prefix=False)
        self.heads, self.scale = heads, scale
        self.product, self.mix = ops.BatchMatMul(transpose_b=True), ops.BatchMatMul()
        self.softmax, self.tile, self.swap = ops.Softmax(-1), ops.Tile(), ops.Transpose()

    def construct(
        self, query: Tensor, key: Tensor, value: Tensor, shift, drop, padding, mask: Tensor, prefix, ends, key_ends
    ) -> tuple:
        batch, length, size = query.shape
        head_dim = size // self.heads
        total, kv_heads = key.shape[1], key.shape[2] // head_dim
        group = self.heads // kv_heads
        query = self.swap(query.reshape((batch, length, kv_heads, group, head_dim)), (0, 2, 3, 1, 4))
        query = query.reshape((batch, kv_heads, group * length, head_dim))
        key = self.swap(key.reshape((batch, total, kv_heads, head_dim)), (0, 2, 1, 3))
        value = self.swap(value.reshape((batch, total, kv_heads, head_dim)), (0, 2, 1, 3))
        hidden = self.tile(ops.cast(mask, ms.float32) * HIDDEN, (1, self.heads, 1, 1))
        scores = self.product(query, key).reshape((batch, self.heads, length, total))
        if self.scale != 1.0:
            scores = scores * self.scale
        weights = self.softmax(scores + hidden).reshape((batch, kv_heads, group * length, total))
        out = self.mix(weights, value).reshape((batch, kv_heads, group, length, head_dim))
        out = self.swap(out, (0, 3, 1, 2, 4)).reshape((batch, length, size))
        return out, out, out, out


PORTABLE = {
    "Add": ops.BiasAdd,
    "GeLU": ops.GeLU,
    "MatMul": mat_mul,
    **{
        own.__name__: own
        for own in (
            *(LayerNormExt, RmsNorm, SiLU, RotaryPositionEmbedding, IndexSelect, InplaceIndexCopy),
            FlashAttentionScore,
        )
    },
}
