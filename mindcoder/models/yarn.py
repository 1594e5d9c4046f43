"""YaRN (Peng et al. 2023): fast rotary frequencies are kept, slow ones divided, those between interpolated."""

from __future__ import annotations

import math

import numpy as np

from mindcoder.families.transformer_config import TransformerConfig


def yarn_frequencies(config: TransformerConfig) -> np.ndarray:
    """Rotary frequencies of the pairs that rotate, float32 ``[R/2]``, by the rounding of transformers'
    ``_compute_yarn_parameters``.

    Args:
        config: with a scaling of kind ``yarn``.
    """
    assert config.rope_scaling is not None
    scaling, rotating = config.rope_scaling, config.rotating_dim

    def pair_with(rotations: float) -> float:
        """The pair, as a fraction, that turns so often within the original context."""
        turned = math.log(scaling.original_length / (rotations * 2 * math.pi))
        return rotating * turned / (2 * math.log(config.rope_theta))

    low, high = pair_with(scaling.beta_fast), pair_with(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotating - 1)
    if low == high:
        high += 0.001  # as transformers does, so that the band has a width
    pairs = np.arange(rotating // 2, dtype=np.float32)
    kept = 1 - np.clip((pairs - np.float32(low)) / np.float32(high - low), 0, 1)
    exponents = np.arange(0, rotating, 2, dtype=np.float32) / np.float32(rotating)
    powers = np.power(np.float32(config.rope_theta), exponents)
    return ((1 - kept) / (np.float32(scaling.factor) * powers) + kept / powers).astype(np.float32)
