"""GPTQ (Frantar et al. 2022): integers whose outputs on the calibration texts change least.

A weight's columns are rounded from the first to the last; the error that a column makes in the outputs is made good by
the columns that are still to come, as far as the inputs allow: with ``H = Σ x xᵀ`` and the upper Cholesky factor U of
its inverse, ``W[:, j:] -= (w_j - q_j) / U_jj * U[j, j:]``. Columns go in blocks, whose effect on all later ones is
added once.

The scales of a group are those whose rounding errors, weighed by the squares of the inputs, are smallest: cutting off
some of the range is worth as much as the algorithm itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mindcoder.checkpoint.quantized.format import Integers
from mindcoder.quantization.algorithms.clipping import by_squares, clipped
from mindcoder.quantization.algorithms.registry import Rounding
from mindcoder.quantization.rounding import from_integers, to_integers

BLOCK = 128  # columns
DAMPING = 0.01
ATTEMPTS = 4  # of a factorization, each with ten times the damping
DOUBLE_UP_TO = 8192  # inputs; three matrices of 24576² in float64 would be 14 GB
# A group of columns, float32 [rows, 1, size], and the mean squares of its inputs, [size] -> scale and offset, [rows, 1]
GroupScales: TypeAlias = "Callable[[np.ndarray, np.ndarray, Integers], tuple[np.ndarray, np.ndarray]]"


def clipped_by_inputs(weight: np.ndarray, squares: np.ndarray, integers: Integers) -> tuple[np.ndarray, np.ndarray]:
    """The scales with the smallest errors, see `clipped`."""
    return clipped(weight, integers, by_squares(squares[None]))


@dataclass(frozen=True)
class Gptq:
    """The algorithm with its options.

    Attributes:
        scales: chooses scales and offsets of a group of columns.
        damping: added to the diagonal of H, as a share of its mean.
        act_order: whether the columns with the largest inputs go first. The groups stay neighbouring inputs, with the
            scales of the weight as it was; else those of a group's columns when its turn comes.
    """

    scales: GroupScales = clipped_by_inputs
    damping: float = DAMPING
    act_order: bool = False

    def __call__(
        self, weight: np.ndarray, gram: np.ndarray, integers: Integers, rounded: Rounding
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Quantize a weight.

        Args:
            weight: float32 ``[out, in]``.
            gram: H, float32 ``[in, in]``.
            rounded: gives scales as the file stores them.

        Returns:
            Numbers int8 ``[out, in]``; scale and offset float32 ``[out, groups]``.

        Raises:
            ValueError: H cannot be factorized, however much is added to its diagonal.
        """
        unused = np.diag(gram) <= 0  # inputs that are always zero: any number will do
        order = np.argsort(-np.diag(gram), kind="stable") if self.act_order else np.arange(weight.shape[1])
        factor = self._factor(gram, unused, order)
        # Columns as rows: each is contiguous.
        columns = np.ascontiguousarray(weight.T)
        columns[unused] = 0
        groups = _Groups(columns, np.diag(gram), integers, self.scales, rounded, fixed=self.act_order)
        columns = columns[order]
        numbers = np.empty(columns.shape, np.int8)
        for begin in range(0, len(columns), BLOCK):
            end = min(begin + BLOCK, len(columns))
            errors = np.empty((end - begin, columns.shape[1]), np.float32)
            for index in range(begin, end):
                if not self.act_order:
                    groups.reach(index, columns)
                numbers[index], values = groups.quantize(order[index], columns[index])
                error = errors[index - begin] = (columns[index] - values) / factor[index, index]
                columns[index + 1 : end] -= np.outer(factor[index, index + 1 : end], error)
            columns[end:] -= factor[begin:end, end:].T @ errors
        back = np.empty_like(numbers)
        back[order] = numbers
        return np.ascontiguousarray(back.T), groups.scale, groups.offset

    def _factor(self, gram: np.ndarray, unused: np.ndarray, order: np.ndarray) -> np.ndarray:
        """U of the inverse of H, in the order in which columns go."""
        size = len(gram)
        hessian = gram.astype(np.float64 if size <= DOUBLE_UP_TO else np.float32)
        diagonal = np.arange(size)
        hessian[diagonal[unused], diagonal[unused]] = 1
        # With R the upper factor of H = R Rᵀ the inverse is Uᵀ U for U = R⁻¹. R is the lower factor of the reversed H.
        hessian = hessian[order][:, order][::-1, ::-1]
        mean, added = float(hessian.trace()) / size, self.damping
        for _ in range(ATTEMPTS):
            damped = hessian.copy()
            damped[diagonal, diagonal] += added * mean
            try:
                lower = np.linalg.cholesky(damped)
            except np.linalg.LinAlgError:
                added *= 10
                continue
            return np.linalg.inv(lower[::-1, ::-1]).astype(np.float32)
        raise ValueError(f"the inputs on the calibration texts depend on each other, even with damping {added / 10:g}")


class _Groups:
    """The scales of a weight whose columns are rows here, chosen when a group's first column is reached.

    Args:
        squares: of the inputs, ``[in]``.
        fixed: choose them all at once.
    """

    def __init__(
        self,
        columns: np.ndarray,
        squares: np.ndarray,
        integers: Integers,
        scales: GroupScales,
        rounded: Rounding,
        fixed: bool,
    ) -> None:
        inputs, outputs = columns.shape
        self._squares, self._integers, self._scales, self._rounded = squares, integers, scales, rounded
        self._size = integers.group_size or inputs
        self.scale = np.zeros((outputs, inputs // self._size), np.float32)
        self.offset = np.zeros_like(self.scale)
        if fixed:
            for begin in range(0, inputs, self._size):
                self.reach(begin, columns)

    def reach(self, index: int, columns: np.ndarray) -> None:
        """Choose the scales of the group that begins at column ``index``, if one does."""
        if index % self._size:
            return
        group = np.ascontiguousarray(columns[index : index + self._size].T)[:, None]
        scale, offset = self._scales(group, self._squares[index : index + self._size], self._integers)
        number = index // self._size
        self.scale[:, number], self.offset[:, number] = self._rounded(scale)[:, 0], offset[:, 0]

    def quantize(self, index: int, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of column ``index``, and what they stand for; both ``[out]``."""
        group = slice(index // self._size, index // self._size + 1)
        scale, offset = self.scale[:, group], self.offset[:, group]
        numbers = to_integers(column[:, None, None], scale, offset, self._integers)
        return numbers[:, 0, 0], from_integers(numbers, scale, offset)[:, 0, 0]
