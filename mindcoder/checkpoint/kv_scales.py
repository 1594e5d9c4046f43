"""Scales of a KV cache in integers that were measured beforehand: one for each channel of a layer's keys and values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LOWEST, HIGHEST = -128, 127  # of the integers


@dataclass(frozen=True, eq=False)
class ChannelScales:
    """How keys, or values, become int8: ``round(x * (1 / scale) + offset)``, which stands for ``(q - offset) * scale``.

    Attributes:
        scale: float32 ``[K*D]``, positive.
        offset: float32 ``[K*D]``, whole numbers.
    """

    scale: np.ndarray
    offset: np.ndarray

    @property
    def inverse(self) -> np.ndarray:
        """1 / scale, float32 ``[K*D]``."""
        return np.float32(1) / self.scale

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """Keys or values ``[.., K*D]`` as int8."""
        whole = np.rint(values.astype(np.float32) * self.inverse + self.offset)
        return np.clip(whole, LOWEST, HIGHEST).astype(np.int8)


@dataclass(frozen=True, eq=False)
class KvScales:
    """Scales of a layer's keys, as they are cached (with their norm and rotary positions), and of its values."""

    key: ChannelScales
    value: ChannelScales
