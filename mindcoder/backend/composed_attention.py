"""Causal attention with grouped keys and values, composed from matrix products and a softmax.

For float32, until flash attention takes it, too (`mindcoder.backend.attention`). Query heads that share a key head are
folded into rows, so that multi-query attention (K = 1) is two plain batched products without a single transpose.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindcoder.backend.dropout import CounterDropout
from mindcoder.backend.row_operators import RowSum

MASKED = -10000.0  # additive mask; small enough for float16, and exp(-10000) is 0 in every dtype


class GroupedAttention(nn.Cell):
    """``softmax(q @ k.T + bias) @ v`` for queries folded into rows.

    Shapes: query ``[B*K, S*G, D]`` (already scaled), key and value ``[B*K, T, D]``, bias ``[B*K, S*G, T]``,
    seed an int32 scalar. Returns the attention output ``[B*K, S*G, D]``. G = N / K query heads share a key head.

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
        self.row_sum = RowSum()
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
        correction = self.row_sum(dout * out)
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


class CausalAttention(nn.Cell):
    """Attention of rows to rows, see ``construct``.

    Args:
        num_heads, num_kv_heads, head_dim: of this process.
        dropout, site: of the probabilities; sites of one network draw different masks.
        softmax_dtype: the softmax's.
        compute_dtype: of queries, keys and values.
        window: tokens that a token sees at most, where the operator wants to know; the masks say it anyway.
    """

    def __init__(
        self,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        dropout: float,
        site: int,
        softmax_dtype: ms.dtype.Number,
        compute_dtype: ms.dtype.Number,
        window: int | None = None,
    ) -> None:
        super().__init__(auto_prefix=False)
        self.num_kv_heads, self.group_size, self.head_dim = num_kv_heads, num_heads // num_kv_heads, head_dim
        self.grouped = GroupedAttention(dropout, site, softmax_dtype)

    def fold(self, query: Tensor, batch: int, length: int) -> Tensor:
        """``[B*S, N*D] -> [B*K, S*G, D]``."""
        if self.num_kv_heads > 1:
            query = query.reshape((batch, length, self.num_kv_heads, self.group_size * self.head_dim))
            query = ops.transpose(query, (0, 2, 1, 3))
        return query.reshape((batch * self.num_kv_heads, length * self.group_size, self.head_dim))

    def unfold(self, attn_output: Tensor, batch: int, length: int) -> Tensor:
        """``[B*K, S*G, D] -> [B*S, N*D]``, the inverse of `fold`."""
        if self.num_kv_heads > 1:
            attn_output = attn_output.reshape((batch, self.num_kv_heads, length, self.group_size * self.head_dim))
            attn_output = ops.transpose(attn_output, (0, 2, 1, 3))
        return attn_output.reshape((batch * length, self.num_kv_heads * self.group_size * self.head_dim))

    def split(self, projected: Tensor, batch: int, length: int) -> Tensor:
        """``[B*T, K*D] -> [B*K, T, D]``."""
        if self.num_kv_heads > 1:
            projected = projected.reshape((batch, length, self.num_kv_heads, self.head_dim))
            projected = ops.transpose(projected, (0, 2, 1, 3))
        return projected.reshape((batch * self.num_kv_heads, length, self.head_dim))

    def construct(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, seed: Tensor, batch: int, length: int, total: int
    ) -> Tensor:
        """``[B*S, N*D] -> [B*S, N*D]``.

        Args:
            query: rotated and scaled, ``[B*S, N*D]``.
            key, value: ``[B*T, K*D]``.
            mask: what `AttentionMasks` gives for this grid.
            seed: int32 scalar of the dropout.
            batch, length, total: B, S and T.
        """
        return self.composed(query, key, value, mask, seed, batch, length, total)

    def composed(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, seed: Tensor, batch: int, length: int, total: int
    ) -> Tensor:
        """The same through `GroupedAttention`."""
        folded = self.fold(query, batch, length)
        attn_output = self.grouped(folded, self.split(key, batch, total), self.split(value, batch, total), mask, seed)
        return self.unfold(attn_output, batch, length)

    def cached(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, batch: int, length: int, total: int
    ) -> Tensor:
        """The same without dropout or gradient, to keys and values from a cache."""
        return self.composed(query, key, value, mask, Tensor(0, ms.int32), batch, length, total)


class AttentionMasks(nn.Cell):
    """Which tokens see which, made once a step and shared by all layers.

    Here as additive masks in `GroupedAttention`'s folded layout: 0 where visible, `MASKED` elsewhere.

    Args:
        num_heads, num_kv_heads, head_dim, softmax_dtype, compute_dtype: as `CausalAttention`.
        window: tokens that a token sees, itself included; None for all before it.
    """

    def __init__(
        self,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        window: int | None,
        softmax_dtype: ms.dtype.Number,
        compute_dtype: ms.dtype.Number,
    ) -> None:
        super().__init__(auto_prefix=False)
        self.num_kv_heads, self.group_size = num_kv_heads, num_heads // num_kv_heads
        self.window = window
        self.dtype = softmax_dtype
        self.prefix_length = 0  # positions before every text that all of its tokens see
        self.join = ops.Concat(-1)

    def finish(self, visible: Tensor) -> Tensor:
        """What `CausalAttention` takes, from a boolean ``[B, S, T]``."""
        return self.additive(visible)

    def additive(self, visible: Tensor) -> Tensor:
        """Boolean ``[B, S, T] -> [B*K, S*G, T]``."""
        batch, length, total = visible.shape
        bias = (ops.cast(visible, self.dtype) - 1.0) * -MASKED
        bias = bias.reshape((batch, 1, length, 1, total))
        bias = ops.broadcast_to(bias, (batch, self.num_kv_heads, length, self.group_size, total))
        return bias.reshape((batch * self.num_kv_heads, length * self.group_size, total))

    def construct(self, document_ids: Tensor) -> Tensor:
        """Causal within each document and the window: ``document_ids [B, S]`` names the document of every token.

        The prefix comes before the S keys of the texts.
        """
        return self.within_documents(document_ids)

    def within_documents(self, document_ids: Tensor) -> Tensor:
        """See ``construct``."""
        batch, length = document_ids.shape
        places = ops.arange(0, length, 1, dtype=ms.int32)
        visible = self.reachable(places.reshape((1, length, 1)), places.reshape((1, 1, length)), length)
        same = document_ids.reshape((batch, length, 1)) == document_ids.reshape((batch, 1, length))
        return self.prepend_prefix(self.finish(ops.logical_and(visible, same)))

    def prepend_prefix(self, mask: Tensor) -> Tensor:
        """The mask with columns for the prefix, which nothing hides, before the keys of the texts."""
        if self.prefix_length == 0:
            return mask
        return self.join((ops.zeros((*mask.shape[:-1], self.prefix_length), mask.dtype), mask))

    def reachable(self, query: Tensor, key: Tensor, total: int) -> Tensor:
        """Whether the token at place ``query`` may look at ``key``: not ahead, and not beyond the window."""
        visible = query >= key
        if self.window is not None and self.window < total:
            visible = ops.logical_and(visible, key > query - self.window)
        return visible

    def cached(self, positions: Tensor, total: int) -> Tensor:
        """Slots up to the token's own, within the window: ``positions [B, S]``, T = ``total``."""
        batch, length = positions.shape
        slots = ops.arange(0, total, 1, dtype=ms.int32).reshape((1, 1, total))
        return self.finish(self.reachable(positions.reshape((batch, length, 1)), slots, total))
