"""Causal attention: flash attention in training and for the chunks of a prompt.

Training is aclnnFlashAttentionVarLenScore (CANN's page of that name: layout TND, N / K a whole number), which takes the
documents of all rows one after the other by their ends: memory grows with the tokens, not with their square. Where a
learned prefix lies before every document, or with attention dropout, it is aclnnFlashAttentionScore: layout BSH, mask
1 = hidden of ``[B, 1, S, T]``. With its sparse mode 0 the tokens before and after that may be visible only name the
blocks worth computing; the mask says what is visible in them: the causal order, the window and the documents. Both take
float32, float16 and bfloat16; their softmax is float32.

Attention to a cache is aclnnFusedInferAttentionScore (page of V2): BSH, float16 or bfloat16, N / K at most 64, D a
multiple of 16; else training's kernel with a mask. The CPU's operators of these names (mindcoder/native) take any.
"""

from __future__ import annotations

import functools

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.ops import auto_generate as aclnn

from mindcoder.backend.documents import DocumentEnds, check_documents
from mindcoder.backend.dropout import AttentionDropBits
from mindcoder.backend.operator_source import on_cpu, operator
from mindcoder.backend.row_operators import Cut

UNBOUNDED = 2147483647
LARGEST_GROUP = 64  # query heads of a key head that FusedInferAttentionScore takes
DIM_MULTIPLE = 16
BOTTOM_RIGHT_CAUSAL, BAND = 3, 4  # sparse modes
COMPRESSED = 2048  # rows and columns of the mask that those modes want to have


@functools.cache
def triangle() -> Tensor:
    """The mask of the modes that need none: 1 above the diagonal."""
    return Tensor(np.triu(np.ones((COMPRESSED, COMPRESSED), np.uint8), 1))


class CausalAttention(nn.Cell):
    """Attention of tokens to the tokens before them, see ``construct``.

    Args:
        num_heads, num_kv_heads, head_dim: of this process.
        dropout, site: of the probabilities; sites of one network draw different masks.
        compute_dtype: of queries, keys and values.
        window: tokens that a token sees at most, itself included; None for all before it.
    """

    def __init__(
        self,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        dropout: float,
        site: int,
        compute_dtype: ms.dtype.Number,
        window: int | None = None,
    ) -> None:
        super().__init__(auto_prefix=False)
        self.head_dim, self.rate = head_dim, dropout
        self.drop_bits = AttentionDropBits(dropout, site, num_heads, num_kv_heads)
        before = UNBOUNDED if window is None else window - 1
        mode = BOTTOM_RIGHT_CAUSAL if window is None else BAND
        self.packed = operator("FlashAttentionScore", num_heads, 1.0, 1.0, before, 0, 0, "TND", mode)
        self.triangle, self.cut_rows = triangle(), Cut(0)
        keep, any_key = 1.0 - dropout, (UNBOUNDED, UNBOUNDED)
        self.causal = operator("FlashAttentionScore", num_heads, 1.0, 1.0, before, 0, 0, "BSH", 0)
        self.causal_dropped = operator("FlashAttentionScore", num_heads, keep, 1.0, before, 0, 0, "BSH", 0)
        self.masked = operator("FlashAttentionScore", num_heads, 1.0, 1.0, *any_key, 0, "BSH", 0)
        self.masked_dropped = operator("FlashAttentionScore", num_heads, keep, 1.0, *any_key, 0, "BSH", 0)
        fits = compute_dtype in (ms.float16, ms.bfloat16) and head_dim % DIM_MULTIPLE == 0
        self.infers = not on_cpu() and fits and num_heads // num_kv_heads <= LARGEST_GROUP
        self.inference = aclnn.FusedInferAttentionScore(num_heads, 1.0, UNBOUNDED, UNBOUNDED, "BSH", num_kv_heads, 0, 0)

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
        if mask.ndim == 1:
            return self.by_documents(query, key, value, mask, mask)
        if mask.ndim == 2:  # queries of a part of the rows
            ends = self.cut_rows(mask, 0, 1).reshape((-1,))
            return self.by_documents(query, key, value, ends, self.cut_rows(mask, 1, 2).reshape((-1,)))
        query = query.reshape((batch, length, -1))
        key, value = key.reshape((batch, total, -1)), value.reshape((batch, total, -1))
        bits = None
        drops = self.rate > 0.0 and self.training
        if drops:
            key, value, mask = self.drop_bits.fill_keys(key, value, mask)
            bits = self.drop_bits(seed, batch, length, key.shape[1], query.dtype)
        if length == total:
            operator = self.causal_dropped if drops else self.causal
        else:  # a prefix lies before the texts' keys, so that token i is not key i
            operator = self.masked_dropped if drops else self.masked
        attn_output = operator(query, key, value, None, bits, None, mask, None, None, None)[3]
        return attn_output.reshape((batch * length, -1))

    def by_documents(self, query: Tensor, key: Tensor, value: Tensor, ends: Tensor, key_ends: Tensor) -> Tensor:
        """The same within each document, from the int64 ends that `DocumentEnds` gives of queries and keys.

        CANN takes ends on the host, where MindSpore copies the tensor once a step. The tuple that its page asks for
        costs the compiler 0.3 s per element.
        """
        query, key, value = (part.reshape((part.shape[0], -1, self.head_dim)) for part in (query, key, value))
        attn_output = self.packed(query, key, value, None, None, None, self.triangle, None, ends, key_ends)[3]
        return attn_output.reshape((query.shape[0], -1))

    def cached(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, batch: int, length: int, total: int
    ) -> Tensor:
        """The same without dropout or gradient, to keys and values from a cache."""
        query = query.reshape((batch, length, -1))
        key, value = key.reshape((batch, total, -1)), value.reshape((batch, total, -1))
        if self.infers:
            attn_output = self.inference(query, (key,), (value,), None, mask)[0]
        else:
            attn_output = self.masked(query, key, value, None, None, None, mask, None, None, None)[3]
        return attn_output.reshape((batch * length, -1))


class AttentionMasks(nn.Cell):
    """Which tokens see which, made once a step and shared by all layers.

    Without a prefix or dropout these are the ends of the documents, see `DocumentEnds`; else a mask, uint8
    ``[B, 1, S, T]``, 1 = hidden.

    Args:
        window, dropout: as `CausalAttention`.
    """

    def __init__(self, window: int | None, dropout: float) -> None:
        super().__init__(auto_prefix=False)
        self.window, self.dropout = window, dropout
        self.prefix_length = 0  # positions of a learned prefix before every text, which all of its tokens see
        self.ends, self.join = DocumentEnds(), ops.Concat(-1)

    def takes_ends(self) -> bool:
        return self.dropout == 0.0 and self.prefix_length == 0

    def construct(self, document_ids: Tensor) -> Tensor:
        """Causal within each document and the window: ``document_ids [B, S]`` names the document of every token.

        The prefix comes before the S keys of the texts.
        """
        return self.ends(document_ids) if self.takes_ends() else self.mask(document_ids)

    def past_prefix(self, position_ids: Tensor) -> Tensor:
        """Position ids of tokens that follow the prefix, if there is one."""
        return position_ids if self.prefix_length == 0 else position_ids + self.prefix_length

    def mask(self, document_ids: Tensor) -> Tensor:
        """See ``construct``."""
        batch, length = document_ids.shape
        positions = ops.arange(0, length, 1, dtype=ms.int32)
        visible = self.reachable(positions.reshape((1, length, 1)), positions.reshape((1, 1, length)), length)
        same = document_ids.reshape((batch, length, 1)) == document_ids.reshape((batch, 1, length))
        mask = self.hidden(ops.logical_and(visible, same))
        if self.prefix_length == 0:
            return mask
        return self.join((ops.zeros((*mask.shape[:-1], self.prefix_length), mask.dtype), mask))

    def cached(self, positions: Tensor, total: int) -> Tensor:
        """The mask of slots up to the token's own, within the window: ``positions [B, S]``, T = ``total``."""
        batch, length = positions.shape
        slots = ops.arange(0, total, 1, dtype=ms.int32).reshape((1, 1, total))
        return self.hidden(self.reachable(positions.reshape((batch, length, 1)), slots, total))

    def reachable(self, query: Tensor, key: Tensor, total: int) -> Tensor:
        """Whether the token at position ``query`` may look at ``key``: not ahead, and not beyond the window."""
        visible = query >= key
        if self.window is not None and self.window < total:
            visible = ops.logical_and(visible, key > query - self.window)
        return visible

    def hidden(self, visible: Tensor) -> Tensor:
        """Boolean ``[B, S, T]`` -> uint8 ``[B, 1, S, T]``."""
        batch, length, total = visible.shape
        return ops.cast(ops.logical_not(visible), ms.uint8).reshape((batch, 1, length, total))

    def check(self, document_ids: np.ndarray) -> None:
        """Whether attention takes such a batch, int32 ``[B, S]``.

        Raises:
            UserError: too many documents.
        """
        if self.takes_ends():
            check_documents(document_ids, self.ends.extra_per_row)
