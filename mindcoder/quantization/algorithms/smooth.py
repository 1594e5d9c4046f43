"""SmoothQuant (Xiao et al. 2022): part of the spread of a layer's inputs is moved into its weight."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mindcoder.families.scale_folds import ScaleFold
from mindcoder.quantization.calibration.statistics import InputStatistics

SMALLEST = 1e-5  # of a scale


def smoothing_scales(
    fold: ScaleFold, weights: Sequence[np.ndarray], inputs: InputStatistics, strength: float
) -> np.ndarray:
    """``max|x|^a / max|w|^(1-a)`` for each channel, float32 ``[source outputs]``: inputs are divided by it, weights
    multiplied. 1 for channels that are always zero.

    Args:
        weights: float32 ``[out, in]`` of all layers that read these inputs.
        strength: a, from 0 (all of the spread stays in the inputs) to 1.
    """
    largest = fold.gathered(np.max([np.abs(weight).max(0) for weight in weights], 0))
    seen = fold.gathered(inputs.max_abs)
    scales = seen**strength / np.maximum(largest, SMALLEST) ** (1 - strength)
    return np.where(seen == 0, 1, np.maximum(scales, SMALLEST)).astype(np.float32)
