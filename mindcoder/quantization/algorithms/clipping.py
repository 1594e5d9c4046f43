"""How much of a group's range is cut off, by the error of the outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from mindcoder.checkpoint.quantized.format import Integers
from mindcoder.quantization.algorithms.minmax import minmax
from mindcoder.quantization.rounding import SMALLEST_SCALE, from_integers, to_integers

CLIPPINGS = 1 - np.arange(10, dtype=np.float32) / 20  # shares of the range
# Change of a weight, float32 [rows, groups, size] -> error of the outputs of each group, [rows, groups]
Errors: TypeAlias = "Callable[[np.ndarray], np.ndarray]"


def clipped(weight: np.ndarray, integers: Integers, errors: Errors) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset of every group with the smallest error, of the shares of `minmax`' range that are tried.

    Args:
        weight: float32 ``[rows, groups, size]``.

    Returns:
        Both float32 ``[rows, groups]``.
    """
    scale, offset = minmax(weight, integers)
    best, smallest = scale, np.full(scale.shape, np.inf, np.float32)
    for share in CLIPPINGS:
        tried = np.maximum(scale * share, SMALLEST_SCALE)
        change = from_integers(to_integers(weight, tried, offset, integers), tried, offset)
        change -= weight
        found = errors(change)
        better = found < smallest
        best, smallest = np.where(better, tried, best), np.where(better, found, smallest)
    return best, offset


def by_gram(gram: np.ndarray, size: int) -> Errors:
    """Errors of the parts of the outputs that come from each group of ``size`` inputs.

    Args:
        gram: of all inputs, float32 ``[groups * size, groups * size]``.
    """
    parts = np.stack([gram[at : at + size, at : at + size] for at in range(0, len(gram), size)])

    def errors(change: np.ndarray) -> np.ndarray:
        by_group = change.transpose(1, 0, 2)
        return np.einsum("grs,grs->rg", by_group @ parts, by_group)

    return errors


def by_squares(squares: np.ndarray) -> Errors:
    """The same as if inputs were independent of each other: their squares weigh the errors of the weights.

    Args:
        squares: mean or sum over all tokens, float32 ``[groups, size]``.
    """
    return lambda change: np.einsum("rgs,rgs,gs->rg", change, change, squares)
