"""Tensors on disk that wait until everything that belongs in a file is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.stored_tensor import StoredTensor, byte_count


class Spool:
    """A folder of raw tensors.

    Args:
        folder: to make, and to write into.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder, self._count = folder, 0

    def put(self, name: str, dtype: str, values: np.ndarray) -> TensorPlan:
        """Write a tensor (bfloat16 as bits); returns the plan that reads it."""
        file = self._folder / f"{self._count}.bin"
        self._count += 1
        np.ascontiguousarray(values).tofile(file)
        size = byte_count(values.shape, dtype)
        return TensorPlan(name, values.shape, dtype, (StoredTensor(name, file, dtype, values.shape, ((0, size),)),))
