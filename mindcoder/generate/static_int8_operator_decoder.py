"""A decoder's step as a graph of operators whose cache is in int8 by scales that were measured beforehand."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, ops

from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.int8_operators import AscendQuantV2, QuantV2
from mindcoder.backend.operator_source import on_cpu
from mindcoder.checkpoint.kv_scales import ChannelScales
from mindcoder.generate.operator_decoder import OperatorDecoder
from mindcoder.models.decoder import Decoder


class StaticInt8OperatorDecoder(OperatorDecoder):
    """`OperatorDecoder` with keys and values in int8, and a scale and an offset for each channel of a layer.

    New keys and values become integers by QuantV2; a step gathers the sequences' integers and dequantizes them for
    attention. Arguments as of `OperatorDecoder`; ``decoder.kv_scales`` are set.
    """

    def __init__(self, decoder: Decoder, blocks: int, block_size: int) -> None:
        super().__init__(decoder, blocks, block_size, pages=False)
        assert decoder.kv_scales is not None
        self.of_keys = [scales.key for scales in decoder.kv_scales]
        self.of_values = [scales.value for scales in decoder.kv_scales]
        self.key_numbers, self.value_numbers = _numbers("key", self.of_keys), _numbers("value", self.of_values)
        self.kv_size = decoder.local_config.kv_size
        self.dtype = resolve_dtype(decoder.config.compute_dtype)
        self.round: Any = QuantV2() if on_cpu() else AscendQuantV2()
        self.tile = ops.Tile()

    @staticmethod
    def pool_dtype(decoder: Decoder) -> ms.dtype.Number:
        """int8."""
        return ms.int8

    def store(self, index: int, key: Tensor, value: Tensor, slot_mapping: Tensor) -> tuple:
        """See `OperatorDecoder.store`."""
        keys, values = self.key_numbers, self.value_numbers
        key = self.round(key, keys[3 * index], keys[3 * index + 2])
        value = self.round(value, values[3 * index], values[3 * index + 2])
        return self.write(self.keys[index], slot_mapping, key), self.write(self.values[index], slot_mapping, value)

    def sequences(self, index: int, slots: Tensor, batch: int) -> tuple:
        """See `OperatorDecoder.sequences`."""
        keys = self.floats(self.keys[index], self.key_numbers, index, slots, batch)
        return keys, self.floats(self.values[index], self.value_numbers, index, slots, batch)

    def floats(self, pool: Parameter, numbers: ParameterTuple, index: int, slots: Tensor, batch: int) -> Tensor:
        """What the integers in ``slots`` stand for: ``[B, M * block_size, K*D]``."""
        rows = (slots.shape[0], 1)
        scale = self.tile(numbers[3 * index + 1].reshape((1, -1)), rows)
        offset = self.tile(numbers[3 * index + 2].reshape((1, -1)), rows)
        values = (ops.cast(self.look_up(pool, slots), ms.float32) - offset) * scale
        return ops.cast(values.reshape((batch, -1, self.kv_size)), self.dtype)

    def write_block(self, layer: int, block: int, keys: np.ndarray, values: np.ndarray) -> None:
        """See `OperatorDecoder.write_block`."""
        slots = slice(block * self.block_size, (block + 1) * self.block_size)
        for pool, scales, new in (
            (self.keys[layer], self.of_keys[layer], keys),
            (self.values[layer], self.of_values[layer], values),
        ):
            cached = pool.asnumpy().copy()
            cached[slots] = scales.rounded(new)
            pool.set_data(Tensor(cached))


def _numbers(kind: str, scales: list[ChannelScales]) -> ParameterTuple:
    """1 / scale, scale and offset of one layer after another, float32 ``[K*D]`` each."""
    return ParameterTuple(
        [
            Parameter(Tensor(values), name=f"{kind}_channels.{layer}.{name}", requires_grad=False)
            for layer, own in enumerate(scales)
            for name, values in (("inverse", own.inverse), ("scale", own.scale), ("offset", own.offset))
        ]
    )
