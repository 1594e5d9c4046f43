"""LongRoPE (Ding et al. 2024): two sets of rotary frequencies, one for texts beyond the original context."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindcoder.families.transformer_config import TransformerConfig


def longrope_frequencies(config: TransformerConfig, is_long: bool) -> np.ndarray:
    """Rotary frequencies of the pairs that rotate, float32 ``[R/2]``.

    Args:
        config: with a scaling of kind ``longrope``.
        is_long: for texts beyond the original context.
    """
    assert config.rope_scaling is not None
    scaling, rotating = config.rope_scaling, config.rotating_dim
    factors = np.asarray(scaling.long_factors if is_long else scaling.short_factors, np.float32)
    exponents = np.arange(0, rotating, 2, dtype=np.float32) / np.float32(rotating)
    return (1.0 / (factors * np.power(np.float32(config.rope_theta), exponents))).astype(np.float32)


class LongRopeFrequencies(nn.Cell):
    """Chooses a set: ``construct(longest)`` gives float32 ``[D/2]``, with 0 for pairs that do not rotate.

    Args:
        short, long: both sets, of all pairs.
        original_length: the longest text of the first.
    """

    def __init__(self, short: np.ndarray, long: np.ndarray, original_length: int) -> None:
        super().__init__(auto_prefix=False)
        self.short, self.long = Tensor(short), Tensor(long)
        self.original_length = original_length
        self.tile = ops.Tile()

    def construct(self, longest: Tensor) -> Tensor:
        is_long = ops.cast(longest > self.original_length, ms.float32)
        shares = self.tile(is_long.reshape((1,)), self.short.shape)
        return self.long * shares + self.short * (1.0 - shares)
