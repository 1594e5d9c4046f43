"""AWQ (Lin et al. 2023): channels with large inputs are scaled up before rounding, so that their errors count less.

`channel_scales` searches the scales of a layer's inputs, ``mean|x|^r`` for the exponent r with the smallest error of
the outputs; what computes the inputs is divided by them (`mindcoder.families.scale_folds`). How much of each group's
range is cut off is searched afterwards, see `mindcoder.quantization.algorithms.clipping`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mindcoder.families.scale_folds import ScaleFold
from mindcoder.quantization.calibration.statistics import InputStatistics

EXPONENTS = np.arange(20) / 20
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
