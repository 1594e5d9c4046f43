"""A decoder's step as a graph of operators whose cache is in integers of 8 bits."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops

from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.int8_operators import RoundRows
from mindcoder.generate.kv_pools import rounded, token_scales
from mindcoder.generate.operator_decoder import OperatorDecoder
from mindcoder.models.decoder import Decoder


class Int8OperatorDecoder(OperatorDecoder):
    """`OperatorDecoder` with keys and values in int8, and a float32 scale for each head of each token.

    A step gathers the sequences' int8 keys and values and dequantizes them for attention. aclnnIncreFlashAttentionV4
    could read them through the block tables, but takes only scales of whole channels with a cache in blocks. Arguments
    as of `OperatorDecoder`.
    """

    def __init__(self, decoder: Decoder, blocks: int, block_size: int) -> None:
        super().__init__(decoder, blocks, block_size, pages=False)
        self.key_scales, self.value_scales = token_scales(decoder, blocks, block_size)
        local = decoder.local_config
        self.heads, self.head_dim = local.num_kv_heads, local.head_dim
        self.dtype = resolve_dtype(decoder.config.compute_dtype)
        self.round, self.tile = RoundRows(self.dtype), ops.Tile()

    @staticmethod
    def pool_dtype(decoder: Decoder) -> ms.dtype.Number:
        """int8."""
        return ms.int8

    def store(self, index: int, key: Tensor, value: Tensor, slot_mapping: Tensor) -> tuple:
        """See `OperatorDecoder.store`."""
        keys = self.store_one(self.keys[index], self.key_scales[index], key, slot_mapping)
        return keys + self.store_one(self.values[index], self.value_scales[index], value, slot_mapping)

    def store_one(self, pool: Parameter, scales: Parameter, new: Tensor, slot_mapping: Tensor) -> tuple:
        """The keys, or the values."""
        numbers, token_scale = self.round(new.reshape((-1, self.head_dim)))
        stored = self.write(pool, slot_mapping, numbers.reshape((-1, self.heads * self.head_dim)))
        return stored, self.write(scales, slot_mapping, token_scale.reshape((-1, self.heads)))

    def sequences(self, index: int, slots: Tensor, batch: int) -> tuple:
        """See `OperatorDecoder.sequences`."""
        keys = self.numbers(self.keys[index], self.key_scales[index], slots, batch)
        return keys, self.numbers(self.values[index], self.value_scales[index], slots, batch)

    def numbers(self, pool: Parameter, scales: Parameter, slots: Tensor, batch: int) -> Tensor:
        """What the integers in ``slots`` stand for: ``[B, M * block_size, K*D]``."""
        token_scales = self.tile(self.look_up(scales, slots).reshape((-1, 1)), (1, self.head_dim))
        values = ops.cast(self.look_up(pool, slots), ms.float32).reshape((-1, self.head_dim)) * token_scales
        return ops.cast(values.reshape((batch, -1, self.heads * self.head_dim)), self.dtype)

    def write_block(self, layer: int, block: int, keys: np.ndarray, values: np.ndarray) -> None:
        """See `OperatorDecoder.write_block`."""
        slots = slice(block * self.block_size, (block + 1) * self.block_size)
        for pool, scales, new in (
            (self.keys[layer], self.key_scales[layer], keys),
            (self.values[layer], self.value_scales[layer], values),
        ):
            numbers, scale = rounded(new.reshape(-1, self.heads, self.head_dim))
            for parameter, rows in ((pool, numbers.reshape(new.shape)), (scales, scale)):
                cached = parameter.asnumpy().copy()
                cached[slots] = rows
                parameter.set_data(Tensor(cached))
