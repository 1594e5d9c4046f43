"""Causal attention: flash attention in training, the fused inference kernel for cached keys.

Training is aclnnFlashAttentionScore (CANN's page of that name: layout BSH, N / K a whole number, mask 1 = hidden of
``[B, 1, S, T]``). With sparse mode 0 the tokens before and after that may be visible only name the blocks worth
computing; the mask says what is visible in them: the causal order, the window and the documents of a packed row.

Attention to a cache is aclnnFusedInferAttentionScore (page of V2): BSH, float16 or bfloat16, N / K at most 64,
D a multiple of 16. On Ascend, float32 and other head sizes take the composed products for both. The CPU's operators of
these names (mindcoder/native) take any.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops import auto_generate as aclnn

from mindcoder.backend import composed_attention
from mindcoder.backend.operator_source import BITS_OF_A_PIECE, on_cpu, operator

UNBOUNDED = 2147483647
LARGEST_GROUP = 64  # query heads of a key head that FusedInferAttentionScore takes
DIM_MULTIPLE = 16
KEYS_OF_A_BYTE = 8  # of the dropout mask
SITE_STRIDE = 0x3C6EF372  # between the seeds of two sites


def flashes(dtype: ms.dtype.Number, head_dim: int) -> bool:
    """Whether the fused kernels compute in this dtype and head size."""
    if on_cpu():
        return True
    return dtype in (ms.float16, ms.bfloat16) and head_dim % DIM_MULTIPLE == 0


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
        self.any_size = on_cpu()  # of the dropout mask
        # Counter-based random numbers: other seeds are other streams, other offsets are the same one further on.
        self.site_offset, self.no_offset = Tensor(site * SITE_STRIDE, ms.int64), Tensor(0, ms.int64)
        self.drop_bits = operator("DropoutGenMaskExt")
        self.keep = 1.0 - dropout
        before = UNBOUNDED if window is None else window - 1
        self.causal = operator("FlashAttentionScore", num_heads, 1.0, 1.0, before, 0, 0, "BSH", 0)
        self.causal_dropped = operator("FlashAttentionScore", num_heads, self.keep, 1.0, before, 0, 0, "BSH", 0)
        self.masked = operator("FlashAttentionScore", num_heads, 1.0, 1.0, UNBOUNDED, UNBOUNDED, 0, "BSH", 0)
        self.masked_dropped = operator(
            "FlashAttentionScore", num_heads, self.keep, 1.0, UNBOUNDED, UNBOUNDED, 0, "BSH", 0
        )
        self.inference = aclnn.FusedInferAttentionScore(num_heads, 1.0, UNBOUNDED, UNBOUNDED, "BSH", num_kv_heads, 0, 0)

    def construct(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, seed: Tensor, batch: int, length: int, total: int
    ) -> Tensor:
        if not self.flashes:
            return self.composed(query, key, value, mask, seed, batch, length, total)
        drops = self.rate > 0.0 and self.training
        bits = None
        if drops:
            pieces = total % KEYS_OF_A_BYTE == 0 and batch * self.num_heads * length * total % BITS_OF_A_PIECE == 0
            if not (self.any_size or pieces):
                return self.composed(query, key, value, self.additive(mask), seed, batch, length, total)
            own_seed = ops.cast(seed, ms.int64) + self.site_offset
            shape = (batch, self.num_heads, length, total)
            # One axis, as CANN documents; MindSpore takes four axes as well.
            bits = self.drop_bits(shape, self.rate, own_seed, self.no_offset, query.dtype)
        query = query.reshape((batch, length, -1))
        key, value = key.reshape((batch, total, -1)), value.reshape((batch, total, -1))
        if length == total:
            operator = self.causal_dropped if drops else self.causal
        else:  # a prefix lies before the texts' keys, so that token i is not key i
            operator = self.masked_dropped if drops else self.masked
        attn_output = operator(query, key, value, None, bits, None, mask, None, None, None)[3]
        return attn_output.reshape((batch * length, -1))

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


class AttentionMasks(composed_attention.AttentionMasks):
    """See `mindcoder.backend.composed_attention.AttentionMasks`.

    Where a fused kernel attends: uint8 ``[B, 1, S, T]``, 1 = hidden.
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
        super().__init__(num_heads, num_kv_heads, head_dim, window, softmax_dtype, compute_dtype)
        self.flashes = flashes(compute_dtype, head_dim)

    def finish(self, visible: Tensor) -> Tensor:
        if not self.flashes:
            return self.additive(visible)
        batch, length, total = visible.shape
        return ops.cast(ops.logical_not(visible), ms.uint8).reshape((batch, 1, length, total))
