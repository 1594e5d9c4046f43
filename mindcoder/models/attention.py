"""Causal self-attention with grouped keys and values (multi-query when there is one group).

Query heads that share a key head are folded into rows, so that multi-query attention (K = 1) is two plain batched
products without a single transpose.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindcoder.backend.kernels import device_kernels
from mindcoder.models.dropout import CounterDropout
from mindcoder.models.initializer import Initializer
from mindcoder.models.linear import Linear
from mindcoder.models.slices import INPUT_AXIS, OUTPUT_AXIS, WHOLE, WholeLayers
from mindcoder.models.transformer_config import TransformerConfig

MASKED = -10000.0  # additive mask; small enough for float16, and exp(-10000) is 0 in every dtype


class GroupedAttention(nn.Cell):
    """``softmax(q @ k.T + bias) @ v`` for queries folded into rows.

    Shapes: query ``[B*K, S*G, D]`` (already scaled), key and value ``[B*K, T, D]``, bias ``[B*K, S*G, T]``,
    seed an int32 scalar. Gives the attended values ``[B*K, S*G, D]``. G = N / K query heads share a key head.

    The gradient computes the probabilities again (a tenth of the layer's time) instead of keeping ``[B*N, S, T]``
    numbers a layer alive. The softmax gradient needs each row's sum of ``grad_probs * probs``; that equals the row's
    sum of ``grad_out * out`` over D (Dao et al. 2022, FlashAttention, appendix B.2). Appended to the product as
    column D + 1 against a column of ones, it is subtracted without a pass over the scores.
    """

    def __init__(self, dropout: float, site: int, softmax_dtype: ms.dtype.Number) -> None:
        super().__init__(auto_prefix=False)
        self.scores = ops.BatchMatMul(transpose_b=True)
        self.mix = ops.BatchMatMul()
        self.mix_transposed = ops.BatchMatMul(transpose_a=True)
        self.softmax = ops.Softmax(-1)
        self.row_sum = ops.ReduceSum(keep_dims=True)
        self.append = ops.Concat(-1)
        self.tile = ops.Tile()
        self.ones = ops.Ones()
        self.softmax_dtype = softmax_dtype
        self.dropout = CounterDropout(dropout, site) if dropout > 0.0 else None

    def probabilities(self, query: Tensor, key: Tensor, bias: Tensor) -> Tensor:
        """``[B*K, S*G, T]`` in the query's dtype."""
        scores = ops.cast(self.scores(query, key), self.softmax_dtype)
        return ops.cast(self.softmax(scores + bias), query.dtype)

    def construct(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, seed: Tensor) -> Tensor:
        probs = self.probabilities(query, key, bias)
        if self.dropout is not None and self.training:
            probs = probs * self.dropout.mask(probs, seed)
        return self.mix(probs, value)

    def bprop(self, query, key, value, bias, seed, out, dout):
        query = ops.depend(query, dout)  # keeps the compiler from reusing (and so keeping) the forward pass's scores
        probs = self.probabilities(query, key, bias)
        correction = self.row_sum(dout * out, -1)
        if self.dropout is None or not self.training:
            kept = probs
            ones = self.ones((value.shape[0], value.shape[1], 1), value.dtype)
            centered = self.scores(self.append((dout, -correction)), self.append((value, ones)))
        else:
            mask = self.dropout.mask(probs, seed)
            kept = probs * mask
            centered = self.scores(dout, value) * mask - self.tile(correction, (1, 1, probs.shape[-1]))
        grad_value = self.mix_transposed(kept, dout)
        grad_scores = probs * centered
        grad_query = self.mix(grad_scores, key)
        grad_key = self.mix_transposed(grad_scores, query)
        return grad_query, grad_key, grad_value, ops.zeros_like(bias), ops.zeros_like(seed)


class SelfAttention(nn.Cell):
    """Projections around `GroupedAttention`.

    Args:
        config: sizes, dropout and initializer range.
        site: number of this layer's attention dropout.
        output_stddev: start deviation of the output projection (scaled down with depth).
        slices: which heads this process has.

    ``rotation`` in the methods below is what `mindcoder.models.rotary.RotaryAngles` gives for the rows' positions, or
    an empty tuple where positions are learned.
    """

    def __init__(
        self,
        config: TransformerConfig,
        site: int,
        initializer: Initializer,
        output_stddev: float,
        param_dtype: ms.dtype.Number,
        compute_dtype: ms.dtype.Number,
        softmax_dtype: ms.dtype.Number,
        slices: WholeLayers = WHOLE,
    ) -> None:
        super().__init__()
        local = slices.local(config)
        self.num_kv_heads = local.num_kv_heads
        self.group_size = local.num_heads // local.num_kv_heads
        self.head_dim = config.head_dim
        self.query_size, self.kv_size = local.query_size, local.kv_size
        self.query_scale = config.query_scale
        dtypes = (initializer, param_dtype, compute_dtype, config.attention_bias)
        column, row = (OUTPUT_AXIS, INPUT_AXIS) if slices.size > 1 else (None, None)
        kv_axis = column if config.num_kv_heads % slices.size == 0 else None
        self.enter = slices.enter()
        self.query = Linear(config.hidden_size, config.query_size, *dtypes, axis=column)
        self.key = Linear(config.hidden_size, config.kv_size, *dtypes, axis=kv_axis)
        self.value = Linear(config.hidden_size, config.kv_size, *dtypes, axis=kv_axis)
        self.output = Linear(
            config.query_size, config.hidden_size, *dtypes, stddev=output_stddev, axis=row, leave=slices.leave()
        )
        self.rotate = device_kernels().RotatePairs(config.head_dim) if config.position == "rope" else None
        self.core = GroupedAttention(config.attention_dropout, site, softmax_dtype)
        self.prefix: Any = None  # learnt keys and values before the texts, see `mindcoder.peft.prefix`

    def fold_query(self, rows: Tensor, rotation: tuple, batch: int, length: int, seed: Tensor | None = None) -> Tensor:
        """``[B*S, H] -> [B*K, S*G, D]``, rotated and scaled."""
        folded = self.query(rows, seed=seed)
        if self.rotate is None:
            folded = folded * self.query_scale
        else:
            folded = self.rotate(folded.reshape((-1, self.head_dim)), rotation[0], rotation[1])
        if self.num_kv_heads > 1:
            folded = folded.reshape((batch, length, self.num_kv_heads, self.group_size * self.head_dim))
            folded = ops.transpose(folded, (0, 2, 1, 3))
        return folded.reshape((batch * self.num_kv_heads, length * self.group_size, self.head_dim))

    def rotated_key(self, rows: Tensor, rotation: tuple, seed: Tensor | None = None) -> Tensor:
        """Keys as they are attended to and cached: ``[B*S, H] -> [B*S, K*D]``."""
        key = self.key(rows, seed=seed)
        if self.rotate is None:
            return key
        return self.rotate(key.reshape((-1, self.head_dim)), rotation[2], rotation[3]).reshape((-1, self.kv_size))

    def unfold(self, attended: Tensor, batch: int, length: int) -> Tensor:
        """``[B*K, S*G, D] -> [B*S, N*D]``, the inverse of `fold_query`."""
        if self.num_kv_heads > 1:
            attended = attended.reshape((batch, self.num_kv_heads, length, self.group_size * self.head_dim))
            attended = ops.transpose(attended, (0, 2, 1, 3))
        return attended.reshape((batch * length, self.query_size))

    def split_kv(self, projected: Tensor, batch: int, length: int) -> Tensor:
        """``[B*T, K*D] -> [B*K, T, D]``."""
        if self.num_kv_heads > 1:
            projected = projected.reshape((batch, length, self.num_kv_heads, self.head_dim))
            projected = ops.transpose(projected, (0, 2, 1, 3))
        return projected.reshape((batch * self.num_kv_heads, length, self.head_dim))

    def construct(self, rows: Tensor, rotation: tuple, bias: Tensor, seed: Tensor, batch: int, length: int) -> Tensor:
        """Attend within the sequence: ``[B*S, H] -> [B*S, H]``; bias ``[B*K, S*G, S]``, with a prefix P more."""
        if self.enter is not None:
            rows = self.enter(rows)
        key = self.split_kv(self.rotated_key(rows, rotation, seed), batch, length)
        value = self.split_kv(self.value(rows, seed=seed), batch, length)
        if self.prefix is not None:
            key, value = self.prefix(key, value, batch, seed)
        attended = self.core(self.fold_query(rows, rotation, batch, length, seed), key, value, bias, seed)
        return self.output(self.unfold(attended, batch, length), seed=seed)

    def attend_cache(
        self,
        rows: Tensor,
        rotation: tuple,
        key_cache: Tensor,
        value_cache: Tensor,
        bias: Tensor,
        batch: int,
        length: int,
    ) -> Tensor:
        """Attend to cached keys and values ``[B, T, K*D]``: ``[B*S, H] -> [B*S, H]``; bias ``[B*K, S*G, T]``."""
        total = key_cache.shape[1]
        key = self.split_kv(key_cache, batch, total)
        value = self.split_kv(value_cache, batch, total)
        query = self.fold_query(rows, rotation, batch, length)
        attended = self.core(query, key, value, bias, Tensor(0, ms.int32))
        return self.output(self.unfold(attended, batch, length))


class AttentionBias(nn.Cell):
    """Additive masks in the folded layout, made once a step and shared by all layers."""

    def __init__(self, config: TransformerConfig, softmax_dtype: ms.dtype.Number) -> None:
        super().__init__(auto_prefix=False)
        self.num_kv_heads = config.num_kv_heads
        self.group_size = config.num_heads // config.num_kv_heads
        self.window = config.sliding_window
        self.dtype = softmax_dtype
        self.prefix_length = 0
        self.join = ops.Concat(-1)

    def fold(self, visible: Tensor) -> Tensor:
        """Boolean ``[B, S, T] -> [B*K, S*G, T]``: 0 where visible, `MASKED` elsewhere."""
        batch, length, total = visible.shape
        bias = (ops.cast(visible, self.dtype) - 1.0) * -MASKED
        bias = bias.reshape((batch, 1, length, 1, total))
        bias = ops.broadcast_to(bias, (batch, self.num_kv_heads, length, self.group_size, total))
        return bias.reshape((batch * self.num_kv_heads, length * self.group_size, total))

    def construct(self, document_ids: Tensor) -> Tensor:
        """Causal within each document and the window: ``document_ids [B, S]`` names the document of every token."""
        batch, length = document_ids.shape
        places = ops.arange(0, length, 1, dtype=ms.int32)
        visible = self.reachable(places.reshape((1, length, 1)), places.reshape((1, 1, length)), length)
        same = document_ids.reshape((batch, length, 1)) == document_ids.reshape((batch, 1, length))
        bias = self.fold(ops.logical_and(visible, same))
        if self.prefix_length == 0:
            return bias
        return self.join((ops.zeros((*bias.shape[:2], self.prefix_length), bias.dtype), bias))

    def reachable(self, query: Tensor, key: Tensor, total: int) -> Tensor:
        """Whether the token at place ``query`` may look at ``key``: not ahead, and not beyond the window."""
        visible = query >= key
        if self.window is not None and self.window < total:
            visible = ops.logical_and(visible, key > query - self.window)
        return visible

    def cached(self, positions: Tensor, total: int) -> Tensor:
        """Slots up to the token's own, within the window: ``positions [B, S] -> [B*K, S*G, total]``."""
        batch, length = positions.shape
        slots = ops.arange(0, total, 1, dtype=ms.int32).reshape((1, 1, total))
        return self.fold(self.reachable(positions.reshape((batch, length, 1)), slots, total))
