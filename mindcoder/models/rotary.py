"""Rotary position embedding: cos/sin of every position, and their application to queries and keys."""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindcoder.backend.operators import ApplyRotary
from mindcoder.backend.row_operators import Cut
from mindcoder.families.transformer_config import RopeScaling, TransformerConfig


def inverse_frequencies(config: TransformerConfig) -> np.ndarray:
    """Rotary frequencies in radians per position, one per pair of a head: float32 ``[D/2]`` (Su et al. 2021; HF
    ``rope_theta``).

    Dynamic scaling changes them beyond the original context only, see `RotaryAngles`.
    """
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = (1.0 / np.power(np.float32(config.rope_theta), exponents)).astype(np.float32)
    scaling = config.rope_scaling
    if scaling is None or scaling.kind == "dynamic":
        return frequencies
    if scaling.kind == "linear":
        return frequencies / np.float32(scaling.factor)
    return _llama3_frequencies(frequencies, scaling)


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


def rotary_angles(config: TransformerConfig, positions: np.ndarray, longest: np.ndarray) -> np.ndarray:
    """cos of every token's pairs, then their sin: float32 ``[T, D]``, on the host.

    Args:
        positions: ``[T]``.
        longest: ``[T]``, current length of each token's sequence, on which dynamic scaling depends.
    """
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind == "dynamic" and longest.max() > scaling.original_length:
        stretch = np.maximum(longest, scaling.original_length) * (scaling.factor / scaling.original_length)
        base = (stretch - (scaling.factor - 1.0)) ** (config.head_dim / (config.head_dim - 2)) * config.rope_theta
        exponents = np.arange(0, config.head_dim, 2) / config.head_dim
        frequencies = (base[:, None] ** -exponents).astype(np.float32)
    else:
        frequencies = inverse_frequencies(config)[None]
    angles = positions[:, None].astype(np.float32) * frequencies
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


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
        if not self.is_dynamic:
            return self.frequencies
        length = ops.maximum(ops.cast(longest, ms.float32), Tensor(self.original_length, ms.float32))
        stretch = length * (self.factor / self.original_length) - (self.factor - 1.0)
        base = ops.pow(stretch, Tensor(self.base_exponent, ms.float32)) * self.theta
        return 1.0 / ops.pow(self.tile(base.reshape((1,)), self.exponents.shape), self.exponents)

    def construct(self, position_ids: Tensor, longest: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        positions = ops.cast(position_ids.reshape((-1, 1)), ms.float32)
        half = self.outer(positions, self.scaled_frequencies(longest).reshape((1, -1)))
        return self.per_heads(ops.cos(half), ops.sin(half))

    def spread(self, angles: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same tensors from the output of `rotary_angles`: cos and sin of the pairs, ``[T, D]``."""
        half = self.head_dim // 2
        return self.per_heads(self.cut(angles, 0, half), self.cut(angles, half, self.head_dim))

    def per_heads(self, half_cos: Tensor, half_sin: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """cos/sin for queries and keys, from cos and sin of the pairs ``[T, D/2]``."""
        cos = ops.cast(self.join((half_cos, half_cos)), self.dtype)
        sin = ops.cast(self.join((half_sin, half_sin)), self.dtype)
        return (
            self.rotate.per_head(cos * self.query_scale),
            self.rotate.per_head(sin * self.query_scale),
            self.rotate.per_head(cos),
            self.rotate.per_head(sin),
        )
