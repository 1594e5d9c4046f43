"""The numbers of NF4 (QLoRA, Dettmers et al. 2023) and of the scales of its scales, as bitsandbytes has them; numpy.

A weight is divided, row by row, into blocks of 64 numbers. A block's scale ``absmax`` is its largest magnitude, and a
number becomes the code whose value times the scale is nearest. With double quantization the scales, less their mean,
are divided into blocks of 256, and each becomes a byte: one of the 256 numbers of `scale_numbers`, times the block's
scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

BLOCK, SCALE_BLOCK = 64, 256
# Quantiles of a normal distribution within -1 to 1, with an exact zero: appendix E of the paper.
CODES = np.array(
    [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ],
    np.float32,
)
SMALLEST = np.float32(1e-38)  # in place of the scale of a block of zeros


@cache
def scale_numbers() -> np.ndarray:
    """What the bytes of scales stand for, ascending, float32 ``[256]``: Dettmers' signed dynamic type of 8 bits.

    In each of seven decades below 1 there are twice as many numbers as in the one below it, evenly spaced.
    """
    found = [0.0, 1.0]
    for decade in range(7):
        parts = 1 << decade
        # In float32 from the nearer end, multiplied and added in one step, as torch.linspace does for bitsandbytes.
        low, step, index = np.float32(0.1), (np.float32(1) - np.float32(0.1)) / np.float32(parts), np.arange(parts + 1)
        from_below, from_above = float(low) + float(step) * index, 1 - float(step) * (parts - index)
        edges = np.where(index < (parts + 1) // 2, from_below, from_above).astype(np.float32)
        means = (edges[:-1] + edges[1:]) / np.float32(2) * np.float32(10.0 ** (decade - 6))
        found += [*means.tolist(), *(-means).tolist()]
    return np.sort(np.array(found, np.float32))


def nearest(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Index of the nearest of ascending ``numbers``, uint8; the lower one halfway."""
    return np.searchsorted((numbers[:-1] + numbers[1:]) / np.float32(2), values).astype(np.uint8)


def to_codes(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes, uint8 of the same shape, and scales, float32 ``[rows, blocks]``, of float32 ``[rows, blocks, BLOCK]``."""
    absmax = np.abs(blocks).max(2)
    scaled = blocks * (np.float32(1) / np.maximum(absmax, SMALLEST))[:, :, None]
    return nearest(np.clip(scaled, -1, 1), CODES), absmax


def pack_codes(codes: np.ndarray) -> np.ndarray:
    """Two codes a byte, the first in the high half: ``[rows, inputs]`` to ``[rows, inputs / 2]``."""
    return (codes[:, 0::2] << 4) | codes[:, 1::2]


def to_numbers(packed: np.ndarray) -> np.ndarray:
    """What packed codes stand for, float32: ``[rows, inputs / 2]`` to ``[rows, inputs]``."""
    octets = np.arange(256)
    pairs = np.stack([CODES[octets >> 4], CODES[octets & 15]], 1)
    return pairs[packed].reshape(len(packed), -1)


@dataclass(frozen=True)
class NestedScales:
    """Scales in bytes.

    Attributes:
        numbers: uint8, of any shape.
        absmax: float32 ``[ceil(numbers / SCALE_BLOCK)]``, of blocks in row-major order.
        offset: added to all.
    """

    numbers: np.ndarray
    absmax: np.ndarray
    offset: np.float32

    @classmethod
    def of(cls, scales: np.ndarray) -> NestedScales:
        """The scales, float32, in bytes."""
        offset = np.float32(scales.mean(dtype=np.float64))
        flat = (scales - offset).reshape(-1)
        padded = np.pad(flat, (0, -len(flat) % SCALE_BLOCK)).reshape(-1, SCALE_BLOCK)
        absmax = np.abs(padded).max(1)
        scaled = padded * (np.float32(1) / np.maximum(absmax, SMALLEST))[:, None]
        numbers = nearest(np.clip(scaled, -1, 1), scale_numbers()).reshape(-1)[: len(flat)]
        return cls(numbers.reshape(scales.shape), absmax, offset)

    def expanded(self, blocks: np.ndarray | None = None) -> np.ndarray:
        """The scales that they stand for, float32 of the shape of ``numbers``.

        Args:
            blocks: number of each scale in the whole weight, if these are not all of them.
        """
        above = np.arange(self.numbers.size).reshape(self.numbers.shape) if blocks is None else blocks
        return scale_numbers()[self.numbers] * self.absmax[above // SCALE_BLOCK] + self.offset
