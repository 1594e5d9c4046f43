"""A decoder's step through the C++ operators of `mindcoder/native`: float32 on CPU, whole layers only."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from mindcoder.backend.device import prefer_huge_pages
from mindcoder.backend.native import head_operator, layers_operator
from mindcoder.generate.kv_pools import key_value_pools
from mindcoder.models.decoder import Decoder, DecoderLayer

KEYS_TOGETHER = 16  # a vector holds so many keys' components: blocks are a multiple of it


class NativeDecoder(nn.Cell):
    """`mindcoder.generate.composed_decoder.ComposedDecoder`'s contract, without its grid.

    Only as many tokens are computed as there are, whatever the graph's shape, so a step may hold prompts and single
    tokens of several sequences. Weights may be float32 or float16; activations and caches are float32.

    The decoder's own cells are left out: MindSpore visits every cell of a network at each call, which took a tenth of
    a step's time.

    Args:
        decoder: the network, or a pipeline stage of it; its slices hold whole layers.
        blocks: of the cache, the scratch block included.
        block_size: tokens of a block, a multiple of `KEYS_TOGETHER`.
    """

    mixes = True

    def __init__(self, decoder: Decoder, blocks: int, block_size: int) -> None:
        super().__init__(auto_prefix=False)
        config = decoder.config
        self.is_first, self.is_last = decoder.stage.is_first, decoder.stage.is_last
        self.stage_dtype = decoder.compute_dtype
        self.layers, self.head = layers_operator(len(decoder.layers)), head_operator(config.vocab_size)
        self.gather = ops.Gather()
        self.nothing = Tensor(np.zeros((1, 1), np.float32))
        sizes = (config.num_heads, config.num_kv_heads, config.head_dim, block_size, config.sliding_window or 0)
        self.sizes = Tensor(np.array(sizes, np.int32))
        self.factors = Tensor(np.array([config.norm_epsilon, config.query_scale], np.float32))

        self.tables = ParameterTuple(_tables(decoder))
        self.keys, self.values = key_value_pools(decoder, blocks, block_size, ms.float32)
        listed: list[Parameter | None] = []
        for layer, keys, values in zip(decoder.layers, self.keys, self.values):
            listed += [*_attention_weights(layer), keys, values, *_mlp_weights(layer)]
        given = [weight for weight in listed if weight is not None]
        places = iter(range(len(given)))
        self.places = tuple(-1 if weight is None else next(places) for weight in listed)
        self.weights = ParameterTuple(given)
        norm = decoder.final_norm
        self.last = ParameterTuple([norm.weight, decoder.head_parameter()] if norm is not None else [])
        self.last_bias = norm.bias if norm is not None else None
        for weight in (*self.weights, *self.last):
            values = weight.asnumpy()
            prefer_huge_pages(values.ctypes.data, values.nbytes)

    def construct(
        self, inputs: Tensor, places: Tensor, tables: Tensor, angles: Tensor, chosen: Tensor, counts: Tensor
    ) -> Tensor:
        """One step; see `mindcoder.generate.composed_decoder.ComposedDecoder`."""
        rows = inputs
        if self.is_first:
            rows = ops.cast(self.gather(self.tables[0], inputs, 0), ms.float32)
            if len(self.tables) > 1:
                rows = rows + ops.cast(self.gather(self.tables[1], places[0], 0), ms.float32)
        rows = ops.cast(rows, ms.float32)
        listed: tuple = ()
        for place in self.places:
            listed = listed + (self.nothing if place < 0 else self.weights[place],)
        rows = self.layers(rows, places, tables, angles, counts, self.sizes, self.factors, *listed)
        if not self.is_last:
            return ops.cast(rows, self.stage_dtype)
        bias = self.nothing if self.last_bias is None else self.last_bias
        return self.head(rows, self.last[0], bias, self.last[1], chosen, counts, self.factors)


def _tables(decoder: Decoder) -> list[Parameter]:
    """Token and position tables, where this stage looks up."""
    if not decoder.stage.is_first:
        return []
    tables = (decoder.token_embedding, decoder.position_embedding)
    return [table.weight for table in tables if table is not None]


def _attention_weights(layer: DecoderLayer) -> list[Parameter | None]:
    """As `mindcoder.backend.native.LAYER_INPUTS` has them before the pools."""
    parts = (layer.attention.query, layer.attention.key, layer.attention.value, layer.attention.output)
    norm = layer.attention_norm
    return [norm.weight, norm.bias, *(weight for part in parts for weight in (part.weight, part.bias))]


def _mlp_weights(layer: DecoderLayer) -> list[Parameter | None]:
    """As `mindcoder.backend.native.LAYER_INPUTS` has them behind the pools."""
    mlp, norm = layer.mlp, layer.mlp_norm
    gate = [None, None] if mlp.gate is None else [mlp.gate.weight, mlp.gate.bias]
    return [norm.weight, norm.bias, *gate, mlp.up.weight, mlp.up.bias, mlp.down.weight, mlp.down.bias]
