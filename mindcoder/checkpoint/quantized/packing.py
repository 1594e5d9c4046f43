"""Integers of fewer bits than a byte, packed and unpacked; numpy, rows of ``[out, in]``."""

from __future__ import annotations

import numpy as np

WORD_BITS = 32
SIGN_OF_BYTE = np.uint8(0x80)
ADDED = 8  # to numbers of 4 bits, so that they are stored without a sign


def pack_nibbles(numbers: np.ndarray) -> np.ndarray:
    """int8 ``[rows, inputs]`` from -8 to 7 as two a byte, uint8 ``[rows, inputs / 2]``: 8 is added, and the first of
    the two is in the low nibble.
    """
    unsigned = numbers.view(np.uint8) + np.uint8(ADDED)
    return unsigned[:, 0::2] | (unsigned[:, 1::2] << 4)


def unpack_nibbles(packed: np.ndarray) -> np.ndarray:
    """The inverse of `pack_nibbles`."""
    numbers = np.empty((packed.shape[0], 2 * packed.shape[1]), np.int8)
    numbers[:, 0::2] = packed & 15
    numbers[:, 1::2] = packed >> 4
    numbers -= ADDED
    return numbers


def to_words(numbers: np.ndarray, bits: int) -> np.ndarray:
    """int8 ``[rows, inputs]`` as unsigned numbers (2^(bits - 1) added) in int32 ``[rows, words]``, the first in the
    lowest bits; the last word of a row is filled up with zeros.
    """
    octets = numbers.view(np.uint8) ^ SIGN_OF_BYTE if bits == 8 else pack_nibbles(_even(numbers))
    return np.ascontiguousarray(_whole_words(octets)).view(np.int32)


def from_words(words: np.ndarray, bits: int, inputs: int) -> np.ndarray:
    """The inverse of `to_words`: int8 ``[rows, inputs]``."""
    octets = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        return np.ascontiguousarray(octets[:, :inputs] ^ SIGN_OF_BYTE).view(np.int8)
    return np.ascontiguousarray(unpack_nibbles(octets)[:, :inputs])


def _even(numbers: np.ndarray) -> np.ndarray:
    """With a last column that is stored as 0, if there is an odd number of them."""
    return numbers if numbers.shape[1] % 2 == 0 else np.pad(numbers, ((0, 0), (0, 1)), constant_values=-ADDED)


def _whole_words(octets: np.ndarray) -> np.ndarray:
    missing = -octets.shape[1] % (WORD_BITS // 8)
    return np.pad(octets, ((0, 0), (0, missing))) if missing else octets
