"""W8A8S: a step so wide that most weights become small integers, many of them zero; a few large ones keep 8 bits."""

from __future__ import annotations

import numpy as np

from mindcoder.checkpoint.quantized.format import Integers
from mindcoder.quantization.rounding import SMALLEST_SCALE

SMALL = 7  # the largest integer of 4 bits, symmetric


def sparse(weight: np.ndarray, integers: Integers) -> tuple[np.ndarray, np.ndarray]:
    """Scale of each output: all of its weights but the share ``integers.large`` are within 4 bits, and none beyond 8.

    The rule is that of msModelSlim's documents (``w_bit=4, a_bit=8``, ``fraction`` 0.01 to 0.1); its tool is published
    as binaries, whose steps may be others.

    Args:
        weight: float32 ``[rows, 1, in]``.

    Returns:
        Float32 ``[rows, 1]``, and offsets of zero.
    """
    magnitudes = np.abs(weight)
    usual = np.quantile(magnitudes, 1 - integers.large, axis=2).astype(np.float32) / np.float32(SMALL + 0.5)
    scale = np.maximum(usual, magnitudes.max(2) / np.float32(integers.highest + 0.5))
    return np.maximum(scale, SMALLEST_SCALE), np.zeros_like(scale)
