"""A decoder's step through the C++ operators of `mindcoder/native`: float32 on CPU, whole layers only."""

from __future__ import annotations

from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from mindcoder.backend.device import prefer_huge_pages
from mindcoder.backend.native import knows_groups, step_numbers, step_operator, step_weights
from mindcoder.generate.adapters import LoadedAdapters
from mindcoder.generate.kv_kinds import FLOAT, INT8
from mindcoder.generate.kv_pools import channel_scales, key_value_pools, rounded, token_scales
from mindcoder.models.decoder import Decoder, DecoderLayer

# `Decoder.kv_cache`, and whether channels have the scales; in the order of native/attention.h's CacheKind.
CACHE_KINDS = ((FLOAT, False), (INT8, False), (INT8, True))
KEYS_PER_VECTOR = 16  # of the C++ attention; blocks are a multiple of it

# What `NativeDecoder.construct` gives the C++ step, besides the weights.
STEP_INPUTS = ("inputs", "mapping", "block_tables", "angles", "logits_indices", "counts", "sizes", "factors", "rotates")
# Weights that the graph lists together. MindSpore's compiler unrolls the list: appending one by one, it keeps tuples of
# every length, more than 8 GB for WizardCoder 15B's 40 layers.
GROUP = 32


def supports(decoder: Decoder) -> bool:
    """Whether the C++ operators know how the weights of all linear layers are kept."""
    return all(
        own is not None and (own.scale is None or knows_groups(linear.in_features, own.scale.shape[1]))
        for linear, own in ((linear, linear.method.native_parameters()) for linear in decoder.linears().values())
    )


class NativeDecoder(nn.Cell):
    """`mindcoder.generate.operator_decoder.OperatorDecoder`'s contract, without its grid.

    Only as many tokens are computed as there are, whatever the graph's shape, so a step may hold prompts and single
    tokens of several sequences. Weights may be float32 or float16, those of linear layers integers too (see
    `NativeParameters`); activations are float32, and so are caches unless they are int8 (`Decoder.kv_cache`).

    The decoder's own cells are left out: MindSpore visits every cell of a network at each call, which took a tenth of
    a step's time.

    Args:
        decoder: the network, or a pipeline stage of it; without tensor parallelism, its weights kept in a way that
            the operators know (`supports`).
        blocks: of the cache, the scratch block included.
        block_size: tokens of a block, a multiple of `KEYS_PER_VECTOR`.
        adapters: those of the network.
    """

    supports_mixed_batches = True

    def __init__(self, decoder: Decoder, blocks: int, block_size: int, adapters: LoadedAdapters | None = None) -> None:
        super().__init__(auto_prefix=False)
        config, stage = decoder.config, decoder.stage
        self.nothing = Tensor(np.zeros((1, 1), np.float32))
        kept = [linear.method.native_parameters() for linear in decoder.linears().values()]
        quantized = any(own is not None and own.scale is not None for own in kept)
        self.num_kv_heads, self.head_dim, self.block_size = config.num_kv_heads, config.head_dim, block_size
        sizes = {
            "num_heads": config.num_heads,
            "num_kv_heads": config.num_kv_heads,
            "head_dim": config.head_dim,
            "block_size": block_size,
            "sliding_window": config.sliding_window or 0,
            "hidden_size": config.hidden_size,
            "vocab_size": config.vocab_size,
            "quantized": quantized,
            "int8_cache": CACHE_KINDS.index((decoder.kv_cache, decoder.kv_scales is not None)),
            "gelu": config.activation == "gelu_tanh",
        }
        factors = {
            "norm_epsilon": config.norm_epsilon,
            "norm_offset": config.norm_offset,
            "query_scale": config.query_scale,
            "embedding": config.embedding_multiplier,
            "residual": config.residual_multiplier,
            "logits": 1.0 / config.logits_scaling,
        }
        self.sizes = Tensor(np.array(step_numbers("StepSizes", sizes), np.int32))
        self.factors = Tensor(np.array(step_numbers("StepFactors", factors), np.float32))
        self.rotates = Tensor(np.array([config.rotates(layer) for layer in stage.layers], np.int32))
        self.is_first, self.is_last, self.stage_dtype = stage.is_first, stage.is_last, decoder.compute_dtype
        result_shape = self._result_shape(config.hidden_size, config.vocab_size)
        self.has_scales = decoder.kv_cache == INT8
        kinds = (adapters is not None, quantized, self.has_scales)
        self.step = step_operator(STEP_INPUTS, len(decoder.layers), result_shape, *kinds)
        dtype = ms.int8 if self.has_scales else ms.float32
        self.keys, self.values = key_value_pools(decoder, blocks, block_size, dtype)
        layers = [
            {**_layer_weights(layer, adapters is not None, quantized), "key_pool": keys, "value_pool": values}
            for layer, keys, values in zip(decoder.layers, self.keys, self.values)
        ]
        self.kv_scales = decoder.kv_scales if self.has_scales else None
        if self.has_scales:
            self.key_scales, self.value_scales = (
                token_scales(decoder, blocks, block_size) if self.kv_scales is None else channel_scales(decoder)
            )
            for named, keys, values in zip(layers, self.key_scales, self.value_scales):
                named.update(keys=keys, values=values)
        adapter_mask = None if adapters is None else adapters.mask
        listed = step_weights({**_outer_weights(decoder), "shares": adapter_mask}, layers)
        distinct = {id(weight): weight for weight in listed if weight is not None}  # a tied head occurs twice
        numbers = {name: number for number, name in enumerate(distinct)}
        indices = [-1 if weight is None else numbers[id(weight)] for weight in listed]
        self.weight_groups = tuple(tuple(indices[start : start + GROUP]) for start in range(0, len(indices), GROUP))
        self.weights = ParameterTuple(list(distinct.values()))
        for weight in self.weights:
            if weight is adapter_mask:
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
        for group in self.weight_groups:
            part: tuple = ()
            for index in group:
                part = part + (self.nothing if index < 0 else self.weights[index],)
            weights = weights + part
        if not self.is_first:
            inputs = ops.cast(inputs, ms.float32)
        result = self.step(
            *(inputs, mapping, block_tables, angles, logits_indices, counts),
            *(self.sizes, self.factors, self.rotates),
            *weights,
        )
        return result if self.is_last else ops.cast(result, self.stage_dtype)

    def write_block(self, layer: int, block: int, keys: np.ndarray, values: np.ndarray) -> None:
        """Write keys and values ``[block_size, K*D]`` into a block of a layer's cache, without computing anything."""
        heads, size, block_size = self.num_kv_heads, self.head_dim, self.block_size
        for kind, new, order in (("key", keys, (1, 2, 0)), ("value", values, (1, 0, 2))):
            if self.kv_scales is not None:
                new = getattr(self.kv_scales[layer], kind).rounded(new)
            new = new.reshape(block_size, heads, size)  # a block as native/attention.cpp has it
            if self.has_scales and self.kv_scales is None:
                new, scale = rounded(new)
                self._write_block(getattr(self, f"{kind}_scales")[layer], block, scale.T)
            self._write_block(getattr(self, f"{kind}s")[layer], block, new.transpose(order))

    def _write_block(self, pool: Parameter, block: int, values: np.ndarray) -> None:
        """Write a whole block."""
        cached = pool.asnumpy().copy()
        cached.reshape(-1, values.size)[block] = values.reshape(-1)
        pool.set_data(Tensor(cached))

    def _result_shape(self, hidden_size: int, vocab_size: int) -> Callable:
        """Logits of the tokens that logits_indices names on the last stage, hidden states of all on others."""
        if self.is_last:
            return lambda shapes: [shapes["logits_indices"][0], vocab_size]
        return lambda shapes: [shapes["mapping"][1], hidden_size]


def _outer_weights(decoder: Decoder) -> dict[str, Parameter | None]:
    """Those of the whole network, by the names of the C++ step; None for what a stage does not have."""
    named: dict[str, Parameter | None] = dict.fromkeys(
        ("token_table", "position_table", "final_weight", "final_bias", "head")
    )
    if decoder.stage.is_first:
        named["token_table"] = decoder.token_embedding.weight
        named["position_table"] = None if decoder.position_embedding is None else decoder.position_embedding.weight
    if decoder.stage.is_last:
        norm = decoder.final_norm
        named.update(final_weight=norm.weight, final_bias=norm.bias, head=decoder.head_parameter())
    return named


def _layer_weights(layer: DecoderLayer, adapted: bool, quantized: bool) -> dict[str, Parameter | None]:
    """Those of a layer, by the names of the C++ step; None for what this kind of layer does not have.

    Args:
        adapted: whether the network has adapters.
        quantized: whether it has weights of integers.
    """
    attention, mlp = layer.attention, layer.mlp
    norms = {"norm": layer.attention_norm, "mlp_norm": layer.mlp_norm}
    linears = {
        "query": attention.query,
        "key": attention.key,
        "value": attention.value,
        "output": attention.output,
        "gate": mlp.gate,
        "up": mlp.up,
        "down": mlp.down,
    }
    named: dict[str, Parameter | None] = {}
    for name, norm in norms.items():
        named[f"{name}_weight"], named[f"{name}_bias"] = norm.weight, norm.bias
    for name, of_heads in (("query_norm", attention.query_norm), ("key_norm", attention.key_norm)):
        named[name] = None if of_heads is None else of_heads.weight
    for name, linear in linears.items():
        own = None if linear is None else linear.method.native_parameters()
        named[name] = None if own is None else own.weight
        named[f"{name}_bias"] = None if linear is None else linear.bias
        if adapted:
            named[f"{name}_a"], named[f"{name}_b"] = (None, None) if own is None else (own.a, own.b)
        if quantized:
            for part in ("scale", "offset", "input"):
                named[f"{name}_{part}"] = None if own is None else getattr(own, part)
    return named
