"""AWQ (Lin et al. 2023): channels with large inputs are scaled up before rounding, so that their errors count less.

`channel_scales` searches the scales of a layer's inputs, ``mean|x|^r`` for the exponent r with the smallest error of
the outputs; what computes the inputs is divided by them (`mindcoder.families.scale_folds`). `clipped` then searches how
much of each group's range to cut off, by the error of the outputs too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mindcoder.checkpoint.quantized.format import Integers
from mindcoder.families.scale_folds import ScaleFold
from mindcoder.quantization.algorithms.minmax import minmax
from mindcoder.quantization.calibration.statistics import InputStatistics
from mindcoder.quantization.rounding import SMALLEST_SCALE, from_integers, to_integers

EXPONENTS = np.arange(20) / 20
CLIPPINGS = 1 - np.arange(10) / 20  # shares of the range
SMALLEST = 1e-4  # of a scale


def channel_scales(
    fold: ScaleFold,
    weights: Sequence[np.ndarray],
    inputs: InputStatistics,
    quantized: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Scales of a fold's channels, float32 ``[source outputs]``; ones if no others make the outputs' error smaller.

    Args:
        weights: of the fold's targets, float32 ``[out, in]``.
        inputs: of the targets.
        quantized: the values that a weight's integers stand for.
    """
    magnitude = np.maximum(fold.gathered(inputs.mean_abs), SMALLEST)
    best, smallest = np.ones_like(magnitude), np.inf
    for exponent in EXPONENTS:
        scales = np.maximum(magnitude**exponent, SMALLEST).astype(np.float32)
        scales /= np.sqrt(scales.max() * scales.min())
        spread = fold.spread(scales)
        error = sum(inputs.energy(quantized(weight * spread) / spread - weight) for weight in weights)
        if error < smallest:
            best, smallest = scales, error
    return best


def clipped(weight: np.ndarray, gram: np.ndarray, integers: Integers) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset of every group with the smallest error of its part of the outputs, of the shares of
    `minmax`' range that are tried.

    Args:
        weight: float32 ``[rows, groups, size]``.
        gram: of the inputs, float32 ``[groups * size, groups * size]``.

    Returns:
        Both float32 ``[rows, groups]``.
    """
    groups, size = weight.shape[1:]
    parts = np.stack([gram[at : at + size, at : at + size] for at in range(0, groups * size, size)])
    scale, offset = minmax(weight, integers)
    best, smallest = scale, np.full(scale.shape, np.inf, np.float32)
    for share in CLIPPINGS.astype(np.float32):
        tried = np.maximum(scale * share, SMALLEST_SCALE)
        change = from_integers(to_integers(weight, tried, offset, integers), tried, offset)
        change -= weight
        by_group = change.transpose(1, 0, 2)
        errors = np.einsum("grs,grs->rg", by_group @ parts, by_group)
        better = errors < smallest
        best, smallest = np.where(better, tried, best), np.where(better, errors, smallest)
    return best, offset
