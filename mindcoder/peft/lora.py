"""LoRA in the network: mindpet's layer around each target linear layer, everything else frozen.

mindpet's `LoRADense` creates and validates the matrices; the products are ours, because they have to run on shards of
layers, recompute activations instead of keeping them, and draw dropout masks that can be drawn again.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from mindcoder.backend.dropout import CounterDropout
from mindcoder.families.parameter_names import LORA_A, LORA_B, MAGNITUDE, split_layer
from mindcoder.models.decoder import Decoder
from mindcoder.models.linear import Linear
from mindcoder.models.methods.lora import DoRA, LoRA
from mindcoder.models.tensor_parallel import INPUT_AXIS, NoTensorParallel, Shard
from mindcoder.peft.mindpet_cells import mindpet_cell
from mindcoder.peft.options import LoraOptions, adapter_shapes, matching_linears

FIRST_SITE = 1 << 12  # first dropout site; those of the network itself come before
SITES_PER_LAYER = 8
RANK_SITE_OFFSET = 1 << 16  # between the dropout sites of tensor-parallel ranks


def low_rank_update(linear: Linear, options: LoraOptions, a: Tensor, site: int, tensor_sum: nn.Cell | None) -> LoRA:
    """The method that puts a low-rank update beside a layer's present one.

    Args:
        linear: a layer of the network, or a shard of it.
        options: rank, scaling, dropout.
        a: initial value of A ``[rank, in]``; B starts at zero.
        site: of its dropout mask.
        tensor_sum: all-reduce over ranks that hold parts of the layer's inputs.
    """
    lora_dense, sizes = mindpet_cell("lora", "LoRADense"), (linear.in_features, linear.out_features)
    matrices = lora_dense(*sizes, options.rank, options.alpha, 0.0, a, weight_init="zeros", has_bias=False)
    del matrices.weight  # the layer has its own
    dropout = CounterDropout(options.dropout, site) if options.dropout > 0.0 else None
    if options.magnitudes:
        return DoRA(linear.method, matrices, options.scaling, dropout, tensor_sum)
    return LoRA(linear.method, matrices, options.scaling, dropout)


def start_value(seed: int, layer: int, index: int, rank: int, inputs: int) -> np.ndarray:
    """Initial value of A ``[rank, inputs]``: uniform within ``±1 / sqrt(inputs)`` (HeUniform of mindpet and PEFT)."""
    bound = inputs**-0.5
    values = np.random.default_rng([seed, layer, index]).uniform(-bound, bound, (rank, inputs))
    return values.astype(np.float32)


def add_lora(decoder: Decoder, options: LoraOptions, seed: int) -> list[Parameter]:
    """Freeze the network, or this rank's part of it, and add a low-rank update to the target linear layers.

    Args:
        decoder: with its weights loaded.
        options: the adapter.
        seed: of the initial values, which are the same in every layout.

    Returns:
        The trainable parameters of this rank.

    Raises:
        ValueError: as `mindcoder.peft.options.matching_linears`.
    """
    config, tp, linears = decoder.config, decoder.tp, decoder.linears()
    shapes = adapter_shapes(options, config)
    decoder.freeze()
    added: list[Parameter] = []
    modules = list(config.linear_shapes())
    for name in matching_linears(options, config):
        if name not in linears:  # on another pipeline stage
            continue
        linear = linears[name]
        layer, module = split_layer(name)
        assert layer is not None
        index = modules.index(module)
        whole = start_value(seed, layer, index, *shapes[f"{name}.{LORA_A}"])
        values = np.ascontiguousarray(tp.shard(whole, INPUT_AXIS if linear.shard is Shard.ROW else None))
        site = FIRST_SITE + layer * SITES_PER_LAYER + index + _own_site(linear, tp)
        tensor_sum = tp.tensor_sum if linear.shard is Shard.ROW else None
        linear.use(low_rank_update(linear, options, Tensor(values), site, tensor_sum))
        parameters = linear.method.layer_parameters()
        added += [parameters[part] for part in (LORA_A, LORA_B, MAGNITUDE) if part in parameters]
    return added


def _own_site(linear: Linear, tp: NoTensorParallel) -> int:
    """Dropout site of this rank: ranks with different input features drop different ones, ranks with the same input
    the same.
    """
    return tp.index * RANK_SITE_OFFSET if linear.shard is Shard.ROW else 0


def rate_ratios(parameters: ms.ParameterTuple, options: LoraOptions) -> list[float]:
    """Learning rate of each parameter relative to the schedule (LoRA+)."""
    return [options.rate_ratio if item.name.endswith(LORA_B) else 1.0 for item in parameters]
