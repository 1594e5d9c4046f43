"""Weights to integers and back, given scales and offsets; numpy, ``[rows, groups, group size]``."""

from __future__ import annotations

import numpy as np

from mindcoder.checkpoint.quantized.format import Integers

SMALLEST_SCALE = np.finfo(np.float32).eps  # of a group of zeros


def to_integers(weight: np.ndarray, scale: np.ndarray, offset: np.ndarray, integers: Integers) -> np.ndarray:
    """``round(weight / scale + offset)`` within the integers' range: int8 of ``weight``'s shape.

    Args:
        weight: float32 ``[rows, groups, size]``.
        scale, offset: float32 ``[rows, groups]``.
    """
    numbers = weight / scale[:, :, None]
    if not integers.symmetric:
        numbers += offset[:, :, None]
    np.rint(numbers, out=numbers)
    np.clip(numbers, integers.lowest, integers.highest, out=numbers)
    return numbers.astype(np.int8)


def from_integers(numbers: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """``(numbers - offset) * scale`` in float32."""
    values = numbers.astype(np.float32)
    values -= offset[:, :, None]
    values *= scale[:, :, None]
    return values
