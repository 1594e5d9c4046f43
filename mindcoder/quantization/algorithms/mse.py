"""Scales with the smallest squared error of the weights: clipped ranges, then the best scale for given integers.

Clipping is what compressed-tensors' MSE observer does; the second step is msModelSlim's SSZ, ``s = Σ W·q / Σ q²``.
"""

from __future__ import annotations

import numpy as np

from mindcoder.checkpoint.quantized.format import Integers
from mindcoder.quantization.algorithms.minmax import minmax
from mindcoder.quantization.rounding import SMALLEST_SCALE, from_integers, to_integers

CLIPPINGS = np.linspace(0.95, 0.55, 9, dtype=np.float32)  # shares of the range
ROUNDS = 5


def mse(weight: np.ndarray, integers: Integers) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset of every group whose integers are nearest to the weights, of those that are tried.

    A group's squared error is never above that of `minmax`. Arguments and result as there.
    """
    scale, offset = minmax(weight, integers)
    best = _Best(weight, integers, scale, offset)
    for share in CLIPPINGS:
        best.offer(scale * share, offset)  # zero stays the same integer: both ends of the range are cut alike
    for _ in range(ROUNDS):
        centred = best.integers().astype(np.float32) - best.offset[:, :, None]
        squares = np.einsum("rgs,rgs->rg", centred, centred)
        fitted = np.einsum("rgs,rgs->rg", weight, centred) / np.where(squares == 0, 1, squares)
        best.offer(np.where(fitted > 0, fitted, best.scale), best.offset)
    return best.scale, best.offset


class _Best:
    """The scales and offsets with the smallest error so far, group by group."""

    def __init__(self, weight: np.ndarray, integers: Integers, scale: np.ndarray, offset: np.ndarray) -> None:
        self._weight, self._kind = weight, integers
        self.scale, self.offset = scale, offset
        self._error = self._errors(scale, offset)

    def integers(self) -> np.ndarray:
        """The weights in integers."""
        return to_integers(self._weight, self.scale, self.offset, self._kind)

    def offer(self, scale: np.ndarray, offset: np.ndarray) -> None:
        """Take those of the groups where they are better."""
        scale = np.maximum(scale, SMALLEST_SCALE)
        error = self._errors(scale, offset)
        better = error < self._error
        self.scale = np.where(better, scale, self.scale)
        self.offset = np.where(better, offset, self.offset)
        self._error = np.where(better, error, self._error)

    def _errors(self, scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
        difference = from_integers(to_integers(self._weight, scale, offset, self._kind), scale, offset)
        difference -= self._weight
        return np.einsum("rgs,rgs->rg", difference, difference)
