"""Activations in integers of 8 bits: scales from their range on calibration texts, and what rounding them does."""

from __future__ import annotations

import numpy as np

from mindcoder.checkpoint.quantized.format import STATIC, Integers, StaticInput
from mindcoder.quantization.calibration.statistics import InputStatistics
from mindcoder.quantization.rounding import SMALLEST_SCALE

SMALLEST = float(SMALLEST_SCALE)
LOWEST, HIGHEST = -128, 127


def static_input(
    inputs: InputStatistics, numbers: np.ndarray, bias: np.ndarray | None, has_offset: bool
) -> StaticInput:
    """One scale for all activations, whose range on the texts, zero included, is that of the integers.

    Args:
        numbers: the weight, int8 ``[out, in]``.
        bias: of the layer, float32 ``[out]``.
        has_offset: whether zero may be another integer than 0; else the range is symmetric.
    """
    low, high = min(float(inputs.low.min()), 0.0), max(float(inputs.high.max()), 0.0)
    scale, offset = max(-low, high) / HIGHEST, 0
    if has_offset:
        scale = (high - low) / (HIGHEST - LOWEST)
        offset = round(min(max(LOWEST - low / max(scale, SMALLEST), LOWEST), HIGHEST))
    scale = float(np.float32(max(scale, SMALLEST)))
    return StaticInput(scale, float(offset), numbers.sum(1, dtype=np.int32), bias)


def rounded(x: np.ndarray, integers: Integers, static: StaticInput | None) -> np.ndarray:
    """What the integers of activations ``[Q, in]`` stand for, float32."""
    if integers.activations == STATIC and static is not None:
        q = np.clip(np.rint(x * np.float32(1 / static.scale) + np.float32(static.offset)), LOWEST, HIGHEST)
        return (q - np.float32(static.offset)) * np.float32(static.scale)
    scale = np.maximum(np.abs(x).max(1, keepdims=True) / np.float32(HIGHEST), np.float32(1e-30))
    return np.rint(x / scale) * scale


def output_error(
    weight: np.ndarray, values: np.ndarray, sample: np.ndarray, integers: Integers, static: StaticInput | None
) -> float:
    """Norm of the change of a sample's outputs divided by theirs, if weight and activations are rounded.

    Args:
        weight, values: before and after, float32 ``[out, in]``.
        sample: activations ``[Q, in]``.
    """
    exact = sample @ weight.T
    norm = float(np.linalg.norm(exact))
    return float(np.linalg.norm(rounded(sample, integers, static) @ values.T - exact)) / norm if norm else 0.0
