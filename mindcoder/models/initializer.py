"""Start values of parameters: seeded numpy, so that every layout and device starts from the same numbers."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor


class Initializer:
    """Draws parameter values in construction order from one seed.

    Args:
        seed: of the numpy generator.
        stddev: standard deviation of `normal` (HF ``initializer_range``).
        empty: leave values at zero, for a network whose weights are loaded right after.
    """

    def __init__(self, seed: int, stddev: float, empty: bool = False) -> None:
        self._generator = np.random.default_rng(seed)
        self._stddev = stddev
        self._empty = empty

    def normal(self, shape: tuple[int, ...], dtype: ms.dtype.Number, stddev: float | None = None) -> Tensor:
        """Normal values of mean 0."""
        if self._empty:
            return self.zeros(shape, dtype)
        values = self._generator.standard_normal(shape, dtype=np.float32)
        values *= self._stddev if stddev is None else stddev
        return Tensor(values, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: ms.dtype.Number) -> Tensor:
        """All zero."""
        return Tensor(np.zeros(shape, np.float32), dtype)

    def ones(self, shape: tuple[int, ...], dtype: ms.dtype.Number) -> Tensor:
        """All one."""
        return Tensor(np.ones(shape, np.float32), dtype)
