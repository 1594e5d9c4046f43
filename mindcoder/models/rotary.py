"""Rotary position embedding: cos/sin of every position, and their application to queries and keys."""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindcoder.backend.operators import ApplyRotary
from mindcoder.backend.row_operators import Cut
from mindcoder.families.rope_scaling import RopeScaling
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.models.longrope import LongRopeFrequencies, longrope_frequencies
from mindcoder.models.yarn import yarn_frequencies


def inverse_frequencies(config: TransformerConfig) -> np.ndarray:
    """Rotary frequencies in radians per position, one per pair of a head: float32 ``[D/2]`` (Su et al. 2021; HF
    ``rope_theta``).

    Pairs beyond ``config.rotating_dim`` have 0. Dynamic scaling and longrope change them beyond the original context
    only, see `RotaryAngles`.
    """
    rotating, scaling = config.rotating_dim, config.rope_scaling
    if scaling is not None and scaling.kind == "longrope":
        return _of_all_pairs(longrope_frequencies(config, is_long=False), config)
    if scaling is not None and scaling.kind == "yarn":
        return _of_all_pairs(yarn_frequencies(config), config)
    exponents = np.arange(0, rotating, 2, dtype=np.float32) / np.float32(rotating)
    frequencies = (1.0 / np.power(np.float32(config.rope_theta), exponents)).astype(np.float32)
    if scaling is not None and scaling.kind == "linear":
        frequencies = frequencies / np.float32(scaling.factor)
    if scaling is not None and scaling.kind == "llama3":
        frequencies = _llama3_frequencies(frequencies, scaling)
    return _of_all_pairs(frequencies, config)


def _of_all_pairs(frequencies: np.ndarray, config: TransformerConfig) -> np.ndarray:
    """With 0 for pairs that do not rotate: ``[R/2] -> [D/2]``."""
    return np.pad(frequencies, (0, (config.head_dim - config.rotating_dim) // 2))


def _llama3_frequencies(frequencies: np.ndarray, scaling: RopeScaling) -> np.ndarray:
    """Low frequencies are divided by ``factor``, high ones kept, those between interpolated (Llama 3.1, HF
    ``llama3``).
    """
    wavelengths = 2 * math.pi / frequencies
    blend = (scaling.original_length / wavelengths - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    blend = np.clip(blend, 0.0, 1.0)
    return ((1 - blend) * frequencies / scaling.factor + blend * frequencies).astype(np.float32)


def attention_factors(config: TransformerConfig) -> np.ndarray:
    """What the cosines and sines of a head's pairs are multiplied by, float32 ``[D/2]``: longrope's or yarn's attention
    factor, 1 for pairs that do not rotate.
    """
    factors = np.ones(config.head_dim // 2, np.float32)
    if config.rope_scaling is not None:
        factors[: config.rotating_dim // 2] = config.rope_scaling.attention_factor
    return factors


def rotary_angles(config: TransformerConfig, positions: np.ndarray, longest: np.ndarray) -> np.ndarray:
    """cos of every token's pairs, then their sin: float32 ``[Q, D]``, on the host, attention factor included.

    Args:
        positions: ``[Q]``.
        longest: ``[Q]``, current length of each token's sequence, on which dynamic scaling depends.
    """
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind == "dynamic" and longest.max() > scaling.original_length:
        stretch = np.maximum(longest, scaling.original_length) * (scaling.factor / scaling.original_length)
        base = (stretch - (scaling.factor - 1.0)) ** (config.head_dim / (config.head_dim - 2)) * config.rope_theta
        exponents = np.arange(0, config.head_dim, 2) / config.head_dim
        frequencies = (base[:, None] ** -exponents).astype(np.float32)
    elif scaling is not None and scaling.kind == "longrope":
        long = _of_all_pairs(longrope_frequencies(config, is_long=True), config)
        frequencies = np.where((longest > scaling.original_length)[:, None], long, inverse_frequencies(config))
    else:
        frequencies = inverse_frequencies(config)[None]
    angles = positions[:, None].astype(np.float32) * frequencies
    factors = attention_factors(config)
    return np.concatenate([np.cos(angles) * factors, np.sin(angles) * factors], axis=1)


class RotaryAngles(nn.Cell):
    """cos/sin for queries and keys, computed once per step and shared by all layers.

    ``construct(position_ids [B, S], longest)`` returns the four tensors that `ApplyRotary` takes: cos and
    sin of queries, already multiplied by the attention scale, and of keys. ``longest`` is an int32 scalar, the current
    length of the longest sequence, on which dynamic scaling depends.
    """

    def __init__(self, config: TransformerConfig, dtype: ms.dtype.Number) -> None:
        super().__init__(auto_prefix=False)
        self.query_scale = config.query_scale
        self.head_dim = config.head_dim
        self.dtype = dtype
        self.frequencies = Tensor(inverse_frequencies(config))
        scaling = config.rope_scaling
        self.is_dynamic = scaling is not None and scaling.kind == "dynamic"
        factors = attention_factors(config)
        self.attention_factors = None if (factors == 1).all() else Tensor(factors.reshape(1, -1))
        self.choose: LongRopeFrequencies | None = None
        if scaling is not None and scaling.kind == "longrope":
            long = _of_all_pairs(longrope_frequencies(config, is_long=True), config)
            self.choose = LongRopeFrequencies(inverse_frequencies(config), long, scaling.original_length)
        if self.is_dynamic:
            self.factor = float(scaling.factor)
            self.original_length = float(scaling.original_length)
            self.theta = float(config.rope_theta)
            self.base_exponent = config.head_dim / (config.head_dim - 2)
            self.exponents = Tensor(np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim))
        self.outer = ops.MatMul()
        self.join = ops.Concat(-1)
        self.tile = ops.Tile()
        self.rotate, self.cut = ApplyRotary(config.head_dim), Cut(1)

    def scaled_frequencies(self, longest: Tensor) -> Tensor:
        """Rotary frequencies ``[D/2]``; with dynamic scaling theta grows once a sequence exceeds the original
        context.
        """
        if self.choose is not None:
            return self.choose(longest)
        if not self.is_dynamic:
            return self.frequencies
        length = ops.maximum(ops.cast(longest, ms.float32), Tensor(self.original_length, ms.float32))
        stretch = length * (self.factor / self.original_length) - (self.factor - 1.0)
        base = ops.pow(stretch, Tensor(self.base_exponent, ms.float32)) * self.theta
        return 1.0 / ops.pow(self.tile(base.reshape((1,)), self.exponents.shape), self.exponents)

    def construct(self, position_ids: Tensor, longest: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        positions = ops.cast(position_ids.reshape((-1, 1)), ms.float32)
        half = self.outer(positions, self.scaled_frequencies(longest).reshape((1, -1)))
        if self.attention_factors is None:
            return self.per_heads(ops.cos(half), ops.sin(half))
        factors = self.tile(self.attention_factors, (half.shape[0], 1))
        return self.per_heads(ops.cos(half) * factors, ops.sin(half) * factors)

    def spread(self, angles: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same tensors from the output of `rotary_angles`: cos and sin of the pairs, ``[Q, D]``."""
        half = self.head_dim // 2
        return self.per_heads(self.cut(angles, 0, half), self.cut(angles, half, self.head_dim))

    def per_heads(self, half_cos: Tensor, half_sin: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """cos/sin for queries and keys, from cos and sin of the pairs ``[Q, D/2]``."""
        cos = ops.cast(self.join((half_cos, half_cos)), self.dtype)
        sin = ops.cast(self.join((half_sin, half_sin)), self.dtype)
        return (
            self.rotate.per_head(cos * self.query_scale),
            self.rotate.per_head(sin * self.query_scale),
            self.rotate.per_head(cos),
            self.rotate.per_head(sin),
        )
