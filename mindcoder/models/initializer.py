"""Parameter initialization with seeded numpy, so that every layout and device starts from the same values."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor
from mindspore.common.initializer import initializer

from mindcoder.models.tensor_parallel import NO_TP, NoTensorParallel


class Initializer:
    """Draws initial parameter values; each part of the network (`at`) has its own seed and draws in construction order.

    Args:
        seed: of the numpy generator.
        stddev: standard deviation of `normal` (HF ``initializer_range``).
        empty: draw no values and touch no memory, for a network whose weights are loaded right after: a layer whose
            weight is kept in integers never has one in floating point.
        tp: this rank's part of the layers. Whole tensors are drawn and then sharded, so that every layout starts
            from the same values.
        part: index of the part of the network.
    """

    def __init__(
        self, seed: int, stddev: float, empty: bool = False, tp: NoTensorParallel = NO_TP, part: int = 0
    ) -> None:
        self._generator = np.random.default_rng([seed, part])
        self._seed = seed
        self._stddev = stddev
        self._empty = empty
        self._tp = tp

    def at(self, part: int) -> Initializer:
        """The initializer of another part, so that a pipeline stage gets the values it has in the whole network."""
        return Initializer(self._seed, self._stddev, self._empty, self._tp, part)

    def normal(
        self, shape: tuple[int, ...], dtype: ms.dtype.Number, stddev: float | None = None, axis: int | None = None
    ) -> Tensor:
        """Normal values with mean 0 of global shape ``shape``; with ``axis`` this rank's shard along it."""
        if self._empty:
            local = [-(-size // self._tp.size) if index == axis else size for index, size in enumerate(shape)]
            return initializer("zeros", local, dtype)  # calloc's pages, which the system gives when they are touched
        values = self._generator.standard_normal(shape, dtype=np.float32)
        values *= self._stddev if stddev is None else stddev
        return Tensor(np.ascontiguousarray(self._tp.shard(values, axis)), dtype)

    def zeros(self, shape: tuple[int, ...], dtype: ms.dtype.Number, axis: int | None = None) -> Tensor:
        """Zeros; shape and axis as in `normal`."""
        return Tensor(np.ascontiguousarray(self._tp.shard(np.zeros(shape, np.float32), axis)), dtype)

    def full(self, shape: tuple[int, ...], dtype: ms.dtype.Number, value: float) -> Tensor:
        """One value everywhere."""
        return Tensor(np.full(shape, value, np.float32), dtype)
