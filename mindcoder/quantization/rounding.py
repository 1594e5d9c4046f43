"""Weights to integers and back, given scales and offsets; numpy, ``[rows, groups, group size]``."""

from __future__ import annotations

import numpy as np

from mindcoder.checkpoint.quantized.format import Integers
from mindcoder.checkpoint.stored_tensor import convert_dtype

SMALLEST_SCALE = np.finfo(np.float32).eps  # of a group of zeros
SMALLEST_STORED = np.float32(2.0**-24)  # above zero in float16, whose range is the smallest


def as_stored(scale: np.ndarray, dtype: str) -> np.ndarray:
    """Scales, float32, as a file has them in ``dtype``; those too small for it become the smallest, never zero."""
    rounded = convert_dtype(convert_dtype(scale, "F32", dtype), dtype, "F32")
    return np.where(rounded == 0, SMALLEST_STORED, rounded)


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
