"""A decoder's step through the C++ operators of `mindcoder/native`: float32 on CPU, whole layers only."""

from __future__ import annotations

from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from mindcoder.backend.device import prefer_huge_pages
from mindcoder.backend.native import STEP_INPUTS, step_operator
from mindcoder.generate.adapters import AdapterBank
from mindcoder.generate.kv_pools import key_value_pools
from mindcoder.models.decoder import Decoder, DecoderLayer
from mindcoder.models.linear import Linear

KEYS_TOGETHER = 16  # a vector holds so many keys' components: blocks are a multiple of it


def supports(decoder: Decoder) -> bool:
    """Whether the C++ operators know how the weights of all linear layers are kept."""
    return all(linear.method.native_parameters() is not None for linear in decoder.linears().values())


class NativeDecoder(nn.Cell):
    """`mindcoder.generate.operator_decoder.OperatorDecoder`'s contract, without its grid.

    Only as many tokens are computed as there are, whatever the graph's shape, so a step may hold prompts and single
    tokens of several sequences. Weights may be float32 or float16; activations and caches are float32.

    The decoder's own cells are left out: MindSpore visits every cell of a network at each call, which took a tenth of
    a step's time.

    Args:
        decoder: the network, or a pipeline stage of it; without tensor parallelism, its weights kept in a way that
            the operators know (`supports`).
        blocks: of the cache, the scratch block included.
        block_size: tokens of a block, a multiple of `KEYS_TOGETHER`.
        bank: the network's adapters.
    """

    mixes = True

    def __init__(self, decoder: Decoder, blocks: int, block_size: int, bank: AdapterBank | None = None) -> None:
        super().__init__(auto_prefix=False)
        config, stage = decoder.config, decoder.stage
        self.nothing = Tensor(np.zeros((1, 1), np.float32))
        sizes = (config.num_heads, config.num_kv_heads, config.head_dim, block_size, config.sliding_window or 0)
        self.sizes = Tensor(np.array([*sizes, config.hidden_size, config.vocab_size], np.int32))
        self.factors = Tensor(np.array([config.norm_epsilon, config.query_scale], np.float32))
        self.is_first, self.is_last, self.stage_dtype = stage.is_first, stage.is_last, decoder.compute_dtype
        result_shape = self._result_shape(config.hidden_size, config.vocab_size)
        self.step = step_operator(len(decoder.layers), result_shape, bank is not None)
        self.keys, self.values = key_value_pools(decoder, blocks, block_size, ms.float32)
        listed = [None if bank is None else bank.shares, *_outer_weights(decoder)]
        for layer, keys, values in zip(decoder.layers, self.keys, self.values):
            listed += [*_attention_weights(layer), keys, values, *_mlp_weights(layer)]
            listed += [] if bank is None else _adapter_weights(layer)
        given = {id(weight): weight for weight in listed if weight is not None}  # a tied head is there twice
        numbers = {name: number for number, name in enumerate(given)}
        self.weight_index = tuple(-1 if weight is None else numbers[id(weight)] for weight in listed)
        self.weights = ParameterTuple(list(given.values()))
        for weight in self.weights:
            if bank is not None and weight is bank.shares:
                continue
            values = weight.asnumpy()
            prefer_huge_pages(values.ctypes.data, values.nbytes)

    def construct(
        self,
        inputs: Tensor,
        mapping: Tensor,
        block_tables: Tensor,
        angles: Tensor,
        logits_indices: Tensor,
        counts: Tensor,
    ) -> Tensor:
        """One step; see `mindcoder.generate.operator_decoder.OperatorDecoder`."""
        weights: tuple = ()
        for index in self.weight_index:
            weights = weights + (self.nothing if index < 0 else self.weights[index],)
        if not self.is_first:
            inputs = ops.cast(inputs, ms.float32)
        result = self.step(
            inputs, mapping, block_tables, angles, logits_indices, counts, self.sizes, self.factors, *weights
        )
        return result if self.is_last else ops.cast(result, self.stage_dtype)

    def put(self, layer: int, block: int, keys: np.ndarray, values: np.ndarray) -> None:
        """Write keys and values ``[block_size, K*D]`` into a block of a layer's cache, without computing anything."""
        heads, size, block_size = (int(item) for item in self.sizes.asnumpy()[1:4])
        for pool, given, order in ((self.keys[layer], keys, (1, 2, 0)), (self.values[layer], values, (1, 0, 2))):
            cached = pool.asnumpy().copy()
            own = given.reshape(block_size, heads, size).transpose(order)  # as native/attention.cpp has a block
            cached.reshape(-1, heads * size * block_size)[block] = own.reshape(-1)
            pool.set_data(Tensor(cached))

    def _result_shape(self, hidden_size: int, vocab_size: int) -> Callable:
        """Logits of the tokens that logits_indices names on the last stage, hidden states of all on others."""
        logits_indices, mapping = STEP_INPUTS.index("logits_indices"), STEP_INPUTS.index("mapping")
        if self.is_last:
            return lambda *shapes: [shapes[logits_indices][0], vocab_size]
        return lambda *shapes: [shapes[mapping][1], hidden_size]


def _outer_weights(decoder: Decoder) -> list[Parameter | None]:
    """As `mindcoder.backend.native.STEP_INPUTS` has them behind the factors."""
    listed: list[Parameter | None] = [None] * 5
    if decoder.stage.is_first:
        listed[0] = decoder.token_embedding.weight
        listed[1] = None if decoder.position_embedding is None else decoder.position_embedding.weight
    if decoder.stage.is_last:
        norm = decoder.final_norm
        listed[2:] = [norm.weight, norm.bias, decoder.head_parameter()]
    return listed


def _attention_weights(layer: DecoderLayer) -> list[Parameter | None]:
    """As `mindcoder.backend.native.LAYER_INPUTS` has them before the pools."""
    parts = (layer.attention.query, layer.attention.key, layer.attention.value, layer.attention.output)
    norm = layer.attention_norm
    return [norm.weight, norm.bias, *(weight for part in parts for weight in _weight_and_bias(part))]


def _mlp_weights(layer: DecoderLayer) -> list[Parameter | None]:
    """As `mindcoder.backend.native.LAYER_INPUTS` has them behind the pools."""
    mlp, norm = layer.mlp, layer.mlp_norm
    parts = (mlp.gate, mlp.up, mlp.down)
    return [norm.weight, norm.bias, *(weight for part in parts for weight in _weight_and_bias(part))]


def _weight_and_bias(linear: Linear | None) -> tuple[Parameter | None, Parameter | None]:
    return (None, None) if linear is None else (linear.method.native_parameters()[0], linear.bias)


def _adapter_weights(layer: DecoderLayer) -> list[Parameter | None]:
    """As `mindcoder.backend.native.ADAPTER_INPUTS` has them."""
    attention, mlp = layer.attention, layer.mlp
    linears = (attention.query, attention.key, attention.value, attention.output, mlp.gate, mlp.up, mlp.down)
    pairs = ((None, None) if item is None else item.method.native_parameters()[1:] for item in linears)
    return [matrix for pair in pairs for matrix in pair]
