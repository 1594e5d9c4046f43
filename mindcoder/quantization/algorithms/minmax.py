"""Scales from the smallest and the largest weight of a group."""

from __future__ import annotations

import numpy as np

from mindcoder.checkpoint.quantized.format import Integers
from mindcoder.quantization.rounding import SMALLEST_SCALE


def minmax(weight: np.ndarray, integers: Integers) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset with which every group's range, zero included, is that of the integers.

    Symmetric: the largest magnitude is half a step beyond the largest integer (compressed-tensors' formula), which on
    average is nearer to the weights than one that cuts nothing off.

    Args:
        weight: float32 ``[rows, groups, size]``.

    Returns:
        Both float32 ``[rows, groups]``; offsets are whole numbers.
    """
    low = np.minimum(weight.min(2), 0)
    high = np.maximum(weight.max(2), 0)
    steps = np.float32(integers.highest - integers.lowest)
    if integers.symmetric:
        scale = np.maximum(-low, high) / (steps / 2)
        return np.where(scale == 0, SMALLEST_SCALE, scale), np.zeros_like(scale)
    scale = (high - low) / steps
    scale = np.where(scale == 0, SMALLEST_SCALE, scale)
    offset = np.rint(np.clip(integers.lowest - low / scale, integers.lowest, integers.highest))
    return scale, np.where(high == low, 0, offset).astype(np.float32)
