"""Causal attention: flash attention in training, the fused inference kernel for cached keys.

Training is aclnnFlashAttentionVarLenScore (CANN's page of that name: layout TND, N / K a whole number), which takes the
documents of all rows one after the other by their ends: memory grows with the tokens, not with their square. Where a
learned prefix lies before every document, or with attention dropout, it is aclnnFlashAttentionScore: layout BSH, mask
1 = hidden of ``[B, 1, S, T]``. With its sparse mode 0 the tokens before and after that may be visible only name the
blocks worth computing; the mask says what is visible in them: the causal order, the window and the documents.

Attention to a cache is aclnnFusedInferAttentionScore (page of V2): BSH, float16 or bfloat16, N / K at most 64,
D a multiple of 16. On Ascend, float32 and other head sizes take the composed products for both. The CPU's operators of
these names (mindcoder/native) take any.
"""

from __future__ import annotations

import functools

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.ops import auto_generate as aclnn
from mindspore.ops.operations import _sequence_ops

from mindcoder.backend import composed_attention
from mindcoder.backend.documents import DocumentEnds, check_documents
from mindcoder.backend.dropout import AttentionDropBits
from mindcoder.backend.operator_source import on_cpu, operator

UNBOUNDED = 2147483647
LARGEST_GROUP = 64  # query heads of a key head that FusedInferAttentionScore takes
DIM_MULTIPLE = 16
BOTTOM_RIGHT_CAUSAL, BAND = 3, 4  # sparse modes
COMPRESSED = 2048  # rows and columns of the mask that those modes want to have
LARGEST_BLOCK = 512  # tokens of a cache's block, for one query a sequence


def flashes(dtype: ms.dtype.Number, head_dim: int) -> bool:
    """Whether the fused kernels compute in this dtype and head size."""
    if on_cpu():
        return True
    return dtype in (ms.float16, ms.bfloat16) and head_dim % DIM_MULTIPLE == 0


@functools.cache
def triangle() -> Tensor:
    """The mask of the modes that need none: 1 above the diagonal."""
    return Tensor(np.triu(np.ones((COMPRESSED, COMPRESSED), np.uint8), 1))


class CausalAttention(composed_attention.CausalAttention):
    """See `mindcoder.backend.composed_attention.CausalAttention`."""

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
        super().__init__(num_heads, num_kv_heads, head_dim, dropout, site, softmax_dtype, compute_dtype, window)
        self.num_heads, self.rate, self.softmax_dtype = num_heads, dropout, softmax_dtype
        self.flashes = flashes(compute_dtype, head_dim)
        self.infers = self.flashes and self.group_size <= LARGEST_GROUP and not on_cpu()
        self.drop_bits = AttentionDropBits(dropout, site, num_heads, num_kv_heads)
        self.keep = 1.0 - dropout
        before = UNBOUNDED if window is None else window - 1
        self.causal = operator("FlashAttentionScore", num_heads, 1.0, 1.0, before, 0, 0, "BSH", 0)
        self.causal_dropped = operator("FlashAttentionScore", num_heads, self.keep, 1.0, before, 0, 0, "BSH", 0)
        self.masked = operator("FlashAttentionScore", num_heads, 1.0, 1.0, UNBOUNDED, UNBOUNDED, 0, "BSH", 0)
        self.masked_dropped = operator(
            "FlashAttentionScore", num_heads, self.keep, 1.0, UNBOUNDED, UNBOUNDED, 0, "BSH", 0
        )
        mode = BOTTOM_RIGHT_CAUSAL if window is None else BAND
        self.packed = operator("FlashAttentionScore", num_heads, 1.0, 1.0, before, 0, 0, "TND", mode)
        self.triangle = triangle()
        self.to_host = None if on_cpu() else _sequence_ops.TensorToTuple()  # one copy a step: equal ones are merged
        self.inference = aclnn.FusedInferAttentionScore(num_heads, 1.0, UNBOUNDED, UNBOUNDED, "BSH", num_kv_heads, 0, 0)

    def construct(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, seed: Tensor, batch: int, length: int, total: int
    ) -> Tensor:
        if not self.flashes:
            return self.composed(query, key, value, mask, seed, batch, length, total)
        if mask.ndim == 1:
            return self.by_documents(query, key, value, mask)
        drops = self.rate > 0.0 and self.training
        bits = None
        if drops:
            if not self.drop_bits.fits(batch, length, total):
                return self.composed(query, key, value, self.additive(mask), seed, batch, length, total)
            bits = self.drop_bits(seed, batch, length, total, query.dtype)
        query = query.reshape((batch, length, -1))
        key, value = key.reshape((batch, total, -1)), value.reshape((batch, total, -1))
        if length == total:
            operator = self.causal_dropped if drops else self.causal
        else:  # a prefix lies before the texts' keys, so that token i is not key i
            operator = self.masked_dropped if drops else self.masked
        attn_output = operator(query, key, value, None, bits, None, mask, None, None, None)[3]
        return attn_output.reshape((batch * length, -1))

    def by_documents(self, query: Tensor, key: Tensor, value: Tensor, ends: Tensor) -> Tensor:
        """The same within each document, from the int64 ends that `DocumentEnds` gives."""
        query, key, value = (part.reshape((part.shape[0], -1, self.head_dim)) for part in (query, key, value))
        if self.to_host is not None:
            ends = self.to_host(ends)
        attn_output = self.packed(query, key, value, None, None, None, self.triangle, None, ends, ends)[3]
        return attn_output.reshape((query.shape[0], -1))

    def additive(self, mask: Tensor) -> Tensor:
        """What `GroupedAttention` takes, from ``[B, 1, S, T]``."""
        batch, _, length, total = mask.shape
        bias = ops.cast(mask, self.softmax_dtype) * composed_attention.MASKED
        bias = bias.reshape((batch, 1, length, 1, total))
        bias = ops.broadcast_to(bias, (batch, self.num_kv_heads, length, self.group_size, total))
        return bias.reshape((batch * self.num_kv_heads, length * self.group_size, total))

    def cached(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, batch: int, length: int, total: int
    ) -> Tensor:
        if not self.flashes:
            return self.composed(query, key, value, mask, Tensor(0, ms.int32), batch, length, total)
        query = query.reshape((batch, length, -1))
        key, value = key.reshape((batch, total, -1)), value.reshape((batch, total, -1))
        if self.infers:
            attn_output = self.inference(query, (key,), (value,), None, mask)[0]
        else:
            attn_output = self.masked(query, key, value, None, None, None, mask, None, None, None)[3]
        return attn_output.reshape((batch * length, -1))


class PagedAttention(nn.Cell):
    """Attention of one token a sequence to a cache in blocks, through their tables: aclnnIncreFlashAttentionV4.

    ``construct(query, keys, values, mask, lengths, tables)``: query ``[B, N*D]``, already scaled; caches
    ``[blocks * block_size, K*D]``; mask uint8 ``[B, 1, 1, M * block_size]``, 1 = hidden, or None where the order is all
    there is to it; int32 lengths ``[B]``, the token included; int32 tables ``[B, M]``. Gives ``[B, N*D]``.

    Args:
        num_heads, num_kv_heads, block_size: of this process.
    """

    def __init__(self, num_heads: int, num_kv_heads: int, block_size: int) -> None:
        super().__init__(auto_prefix=False)
        self.block_size = block_size
        # CANN's kernel takes lengths on the host: one copy a step (equal ones are merged) instead of one a layer.
        self.to_host = None if on_cpu() else _sequence_ops.TensorToTuple()
        self.attend = operator("IncreFlashAttention", num_heads, "BSH", 1.0, num_kv_heads, block_size, 0)

    @staticmethod
    def fits(attention: CausalAttention, block_size: int) -> bool:
        """Whether there is such a kernel for this attention and block size; CANN's page has the limits."""
        if on_cpu():
            return True
        return attention.infers and block_size <= LARGEST_BLOCK and block_size % DIM_MULTIPLE == 0

    def construct(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, lengths: Tensor, tables: Tensor
    ) -> Tensor:
        batch = tables.shape[0]
        seen = ops.cast(lengths, ms.int64)
        if self.to_host is not None:  # on CPU the cache would be copied for another shape, before it is written
            seen = self.to_host(seen)
            shape = (-1, self.block_size, keys.shape[1])
            keys, values = keys.reshape(shape), values.reshape(shape)
        attended = self.attend(
            *(query.reshape((batch, 1, -1)), (keys,), (values,), mask, seen),
            *(None, None, None, None, None, None, None, None, tables),
        )
        return attended.reshape((batch, -1))


class AttentionMasks(composed_attention.AttentionMasks):
    """See `mindcoder.backend.composed_attention.AttentionMasks`.

    Where a fused kernel attends: uint8 ``[B, 1, S, T]``, 1 = hidden; without a prefix or dropout the ends of the
    documents, see `DocumentEnds`.
    """

    def __init__(
        self,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        window: int | None,
        softmax_dtype: ms.dtype.Number,
        compute_dtype: ms.dtype.Number,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_heads, num_kv_heads, head_dim, window, softmax_dtype, compute_dtype)
        self.flashes = flashes(compute_dtype, head_dim)
        self.takes_ends = self.flashes and dropout == 0.0
        self.ends = DocumentEnds()

    def construct(self, document_ids: Tensor) -> Tensor:
        if self.takes_ends and self.prefix_length == 0:
            return self.ends(document_ids)
        return self.within_documents(document_ids)

    def finish(self, visible: Tensor) -> Tensor:
        if not self.flashes:
            return self.additive(visible)
        batch, length, total = visible.shape
        return ops.cast(ops.logical_not(visible), ms.uint8).reshape((batch, 1, length, total))

    def check(self, document_ids: np.ndarray) -> None:
        """Whether attention takes such a batch, int32 ``[B, S]``.

        Raises:
            UserError: too many documents.
        """
        if self.takes_ends and self.prefix_length == 0:
            check_documents(document_ids)
