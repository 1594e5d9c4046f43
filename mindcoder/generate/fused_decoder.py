"""A decoder's step on Ascend: attention to the paged cache with the fused inference kernels."""

from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, Tensor, ops
from mindspore.ops import auto_generate as aclnn
from mindspore.ops.operations import _sequence_ops

from mindcoder.backend.fused_attention import DIM_MULTIPLE
from mindcoder.generate.composed_decoder import ComposedDecoder
from mindcoder.models.decoder import Decoder, DecoderLayer

LARGEST_BLOCK = 512  # tokens; CANN's pages, for one query a sequence


class FusedDecoder(ComposedDecoder):
    """`ComposedDecoder` that reads the cache through its tables in steps of one token a sequence.

    aclnnIncreFlashAttentionV4 does it in float16 and bfloat16: cache ``[blocks, block_size, K*D]``, tables ``[B, M]``.
    For several tokens a sequence aclnnFusedInferAttentionScore wants blocks of 128 tokens, so a prompt's chunk attends
    to the gathered cache, as float32 always does. PagedAttention and ReshapeAndCache of MindSpore 2.9 are no
    alternative: without the internal kernels of ``infer_boost`` there is no such function in CANN's releases, and the
    latter refuses float32; aclnnInplaceIndexCopy writes the cache in every dtype.
    """

    def __init__(self, decoder: Decoder, blocks: int, block_size: int) -> None:
        super().__init__(decoder, blocks, block_size)
        local = decoder.local_config
        self.windowed = local.sliding_window is not None
        core = decoder.layers[0].attention.core
        self.pages = core.infers and block_size <= LARGEST_BLOCK and block_size % DIM_MULTIPLE == 0
        self.pool_shape = (blocks, block_size, local.kv_size)
        # The kernel takes lengths on the host: one copy a step (equal ones are merged) instead of one a layer.
        self.to_host = _sequence_ops.TensorToTuple()
        self.paged = aclnn.IncreFlashAttention(local.num_heads, "BSH", 1.0, local.num_kv_heads, block_size, 0)

    def attend(self, layer: DecoderLayer, normed: Tensor, keys: Parameter, values: Parameter, step: tuple) -> Tensor:
        """See `ComposedDecoder`."""
        rotation, _, tables, lengths, mask = step
        batch = tables.shape[0]
        if not self.pages or normed.shape[0] != batch:
            return self.attend_gathered(layer, normed, keys, values, step)
        # Queries come scaled, by the rotation or before.
        query = layer.attention.rotated_query(normed, rotation).reshape((batch, 1, -1))
        keys, values = keys.reshape(self.pool_shape), values.reshape(self.pool_shape)
        window = mask if self.windowed else None  # the order alone is in the lengths
        attended = self.paged(
            *(query, (keys,), (values,), window, self.to_host(ops.cast(lengths, ms.int64))),
            *(None, None, None, None, None, None, None, None, tables),
        )
        return layer.attention.output(attended.reshape((batch, -1)))
