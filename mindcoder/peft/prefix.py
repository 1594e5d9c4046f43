"""P-tuning v2 (Liu et al. 2021; prefix tuning, Li & Liang 2021): learned keys and values before every sequence, per
layer.

mindpet's `PrefixEncoder` computes them, one per layer; everything else is frozen. They are used as they are cached: no
rotary embedding is applied to them, and sequences begin at the position after them (as with PEFT's ``PREFIX_TUNING``).
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.dropout import CounterDropout
from mindcoder.backend.row_operators import AddBias, Cut, Fork
from mindcoder.families.parameter_names import in_layer
from mindcoder.models.decoder import Decoder
from mindcoder.models.methods.dense import WeightProduct
from mindcoder.peft.mindpet_cells import mindpet_cell
from mindcoder.peft.options import PREFIX_PART, PrefixOptions, prefix_shapes

FIRST_SITE = 1 << 13  # first dropout site; those of the network and of LoRA come before
START_STDDEV = 0.02


class LayerPrefix(nn.Cell):
    """Prepends a layer's learned keys and values to those of its sequences.

    Args:
        options: the prefix.
        num_kv_heads, head_dim: of the layer.
        compute_dtype: of keys and values.
        site: of its dropout mask.
    """

    def __init__(
        self, options: PrefixOptions, num_kv_heads: int, head_dim: int, compute_dtype: ms.dtype.Number, site: int
    ) -> None:
        super().__init__()
        projection = (options.projection, options.projection_dim)
        # Its own dropout mask could not be drawn again for recomputation or in a resumed run.
        encoder = mindpet_cell("ptuning2", "PrefixEncoder")
        self.encoder = encoder(options.tokens, 1, num_kv_heads, head_dim, *projection, 0.0)
        self.compute_dtype, self.num_kv_heads = compute_dtype, num_kv_heads
        self.dropout = CounterDropout(options.dropout, site) if options.dropout > 0.0 else None
        self.join = ops.Concat(1)
        self.cut, self.share, self.add_bias = (
            Cut(),
            Fork(2),
            AddBias(),
        )
        self.product = WeightProduct()

    def pair(self) -> Tensor:
        """Keys and values ``[2, K, P, D]``: the computation of mindpet's cell, in the device's operators."""
        encoder = self.encoder
        prefix = encoder.mindpet_delta_ptuning2_embedding.embedding_table
        if encoder.prefix_projection:
            dense_in, dense_out = encoder.mindpet_delta_ptuning2_dense_in, encoder.mindpet_delta_ptuning2_dense_out
            prefix = ops.tanh(self.add_bias(self.product(prefix, dense_in.weight), dense_in.bias))
            prefix = self.add_bias(self.product(prefix, dense_out.weight), dense_out.bias)
        prefix = ops.cast(prefix, self.compute_dtype)
        shape = (prefix.shape[0], 2, self.num_kv_heads, prefix.shape[1] // (2 * self.num_kv_heads))
        return ops.transpose(prefix.reshape(shape), (1, 2, 0, 3))

    def construct(self, key: Tensor, value: Tensor, batch: int, seed: Tensor) -> tuple[Tensor, Tensor]:
        """Prepend the prefix to each sequence's keys and values: ``[B*T, K*D] -> [B*(P+T), K*D]``."""
        pair = self.pair()
        if self.dropout is not None:
            pair = self.dropout(pair, seed)
        pair = ops.transpose(pair, (0, 2, 1, 3)).reshape((2, pair.shape[2], -1))
        for_keys, for_values = self.share(pair)
        before_keys, before_values = self.cut(for_keys, 0, 1), self.cut(for_values, 1, 2)
        return self.joined(before_keys, key, batch), self.joined(before_values, value, batch)

    def joined(self, before: Tensor, sequences: Tensor, batch: int) -> Tensor:
        """Prepend ``before [1, P, K*D]`` to each of the B ``sequences [B*T, K*D]``."""
        before = ops.broadcast_to(before, (batch, *before.shape[1:]))
        return self.join((before, sequences.reshape((batch, -1, before.shape[2])))).reshape((-1, before.shape[2]))


def add_prefix(decoder: Decoder, options: PrefixOptions, seed: int) -> list[Parameter]:
    """Freeze the network, or this rank's pipeline stage, and add a prefix to its layers.

    Args:
        decoder: with its weights loaded; its layers are whole.
        options: the prefix.
        seed: of the initial values, which are the same in every layout.

    Returns:
        The trainable parameters of this rank.

    Raises:
        ValueError: with tensor parallelism.
    """
    config = decoder.config
    if decoder.tp.size > 1:
        raise ValueError("a prefix does not support tensor parallelism: model_parallel must be 1")
    shapes = prefix_shapes(options, config)
    decoder.freeze()
    added: list[Parameter] = []
    for layer, own in zip(decoder.stage.layers, decoder.layers):
        prefix = LayerPrefix(options, config.num_kv_heads, config.head_dim, decoder.compute_dtype, FIRST_SITE + layer)
        own.attention.prefix = prefix
        for parameter in prefix.get_parameters():
            parameter.name = in_layer(layer, f"{PREFIX_PART}.{parameter.name[parameter.name.index('mindpet') :]}")
        for index, parameter in enumerate(prefix.trainable_params()):
            parameter.set_data(Tensor(_start_value(seed, layer, index, shapes[parameter.name])))
            added.append(parameter)
    decoder.attention_masks.prefix_length = options.tokens
    return added


def _start_value(seed: int, layer: int, index: int, shape: tuple[int, ...]) -> np.ndarray:
    """Initial values: biases are zero, the first matrix is the table, others are uniform within ``±1 /
    sqrt(inputs)``.
    """
    if len(shape) == 1:
        return np.zeros(shape, np.float32)
    rng = np.random.default_rng([seed, layer, index])
    if index == 0:
        return (rng.standard_normal(shape) * START_STDDEV).astype(np.float32)
    return rng.uniform(-(shape[1] ** -0.5), shape[1] ** -0.5, shape).astype(np.float32)


def prefix_values(decoder: Decoder) -> list[tuple[np.ndarray, np.ndarray]]:
    """Keys and values of every layer of this stage as they are cached, float32 ``[P, K*D]``."""
    values = []
    for layer in decoder.layers:
        pair = ops.cast(layer.attention.prefix.pair(), ms.float32).asnumpy()
        keys, own = pair.transpose(0, 2, 1, 3).reshape(2, pair.shape[2], -1)
        values.append((np.ascontiguousarray(keys), np.ascontiguousarray(own)))
    return values
