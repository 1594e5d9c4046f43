"""Start values of parameters: seeded numpy, so that every layout and device starts from the same numbers."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor

from mindcoder.models.slices import WHOLE, WholeLayers


class Initializer:
    """Draws parameter values; each part of the network (`at`) from a seed of its own, in construction order.

    Args:
        seed: of the numpy generator.
        stddev: standard deviation of `normal` (HF ``initializer_range``).
        empty: leave values at zero, for a network whose weights are loaded right after.
        slices: this process's part of the layers. Whole tensors are drawn and cut, so that every layout starts alike.
        part: which part of the network it is for.
    """

    def __init__(
        self, seed: int, stddev: float, empty: bool = False, slices: WholeLayers = WHOLE, part: int = 0
    ) -> None:
        self._generator = np.random.default_rng([seed, part])
        self._seed = seed
        self._stddev = stddev
        self._empty = empty
        self._slices = slices

    def at(self, part: int) -> Initializer:
        """The initializer of another part: a pipeline stage starts with the values it has in the whole network."""
        return Initializer(self._seed, self._stddev, self._empty, self._slices, part)

    def normal(
        self, shape: tuple[int, ...], dtype: ms.dtype.Number, stddev: float | None = None, axis: int | None = None
    ) -> Tensor:
        """Normal values of mean 0, of the whole ``shape``; with ``axis`` this process's part along it."""
        if self._empty:
            return self.zeros(shape, dtype, axis)
        values = self._generator.standard_normal(shape, dtype=np.float32)
        values *= self._stddev if stddev is None else stddev
        return Tensor(np.ascontiguousarray(self._slices.cut(values, axis)), dtype)

    def zeros(self, shape: tuple[int, ...], dtype: ms.dtype.Number, axis: int | None = None) -> Tensor:
        """All zero; shape and axis as `normal`."""
        return Tensor(np.ascontiguousarray(self._slices.cut(np.zeros(shape, np.float32), axis)), dtype)

    def ones(self, shape: tuple[int, ...], dtype: ms.dtype.Number) -> Tensor:
        """All one."""
        return Tensor(np.ones(shape, np.float32), dtype)
