"""A decoder's step on Ascend: its own kernels for the paged cache. Not run here; `composed_decoder` is its twin."""

from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor
from mindspore.ops.auto_generate import PagedAttention, ReshapeAndCache

from mindcoder.generate.composed_decoder import ComposedDecoder
from mindcoder.models.decoder import Decoder, DecoderLayer


class FusedDecoder(ComposedDecoder):
    """`ComposedDecoder` with ReshapeAndCache for all steps and PagedAttention for those of one token a sequence.

    A prompt's chunk attends through the gathered cache, as the kernel takes single tokens only; so does a model with a
    sliding window, which the kernel does not know.
    """

    def __init__(self, decoder: Decoder, blocks: int, block_size: int) -> None:
        super().__init__(decoder, blocks, block_size)
        local = decoder.local_config
        shape = (blocks, block_size, local.num_kv_heads, local.head_dim)
        self.keys, self.values = _in_blocks(self.keys, shape), _in_blocks(self.values, shape)
        self.reshape_and_cache = ReshapeAndCache()
        # Queries come scaled, by the rotation or before the folding.
        self.paged_attention = PagedAttention(local.num_heads, 1.0, local.num_kv_heads)
        self.windowed = local.sliding_window is not None

    def store(self, keys: Parameter, values: Parameter, key: Tensor, value: Tensor, slots: Tensor) -> tuple:
        """See `ComposedDecoder`."""
        return (self.reshape_and_cache(key, value, keys, values, slots),)

    def attend(self, layer: DecoderLayer, normed: Tensor, keys: Parameter, values: Parameter, step: tuple) -> Tensor:
        """See `ComposedDecoder`."""
        rotation, _, tables, lengths, _ = step
        batch = tables.shape[0]
        if self.windowed or normed.shape[0] != batch:
            return self.attend_gathered(layer, normed, keys, values, step)
        query = layer.attention.fold_query(normed, rotation, batch, 1).reshape((batch, 1, -1))
        attended = self.paged_attention(query, keys, values, tables, lengths)
        return layer.attention.output(attended.reshape((batch, -1)))


def _in_blocks(pools: ParameterTuple, shape: tuple[int, ...]) -> ParameterTuple:
    """The same pools in the shape that the kernels want."""
    return ParameterTuple(
        [Parameter(ms.ops.zeros(shape, pool.dtype), name=pool.name, requires_grad=False) for pool in pools]
    )
