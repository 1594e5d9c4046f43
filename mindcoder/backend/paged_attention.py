"""Attention of single tokens to a cache in blocks: aclnnIncreFlashAttentionV4 (CANN's page of that name)."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore.ops.operations import _sequence_ops

from mindcoder.backend.attention import DIM_MULTIPLE, CausalAttention
from mindcoder.backend.operator_source import on_cpu, operator

LARGEST_BLOCK = 512  # tokens of a cache's block, for one query a sequence


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
        attn_output = self.attend(
            *(query.reshape((batch, 1, -1)), (keys,), (values,), mask, seen),
            *(None, None, None, None, None, None, None, None, tables),
        )
        return attn_output.reshape((batch, -1))
