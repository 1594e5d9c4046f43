"""Integers of fewer bits than a byte, packed and unpacked; numpy, rows of ``[out, in]``."""

from __future__ import annotations

import numpy as np

WORD_BITS = 32
SIGN_OF_NIBBLES = np.uint8(0x88)  # of both in a byte
SIGN_OF_BYTE = np.uint8(0x80)


def pack_nibbles(numbers: np.ndarray) -> np.ndarray:
    """int8 ``[rows, inputs]`` from -8 to 7 as two a byte, uint8 ``[rows, inputs / 2]``: the first in the low nibble,
    each in two's complement.
    """
    bits = numbers.view(np.uint8)
    return (bits[:, 0::2] & 15) | (bits[:, 1::2] << 4)


def unpack_nibbles(packed: np.ndarray) -> np.ndarray:
    """The inverse of `pack_nibbles`."""
    numbers = np.empty((packed.shape[0], 2 * packed.shape[1]), np.int8)
    numbers[:, 0::2] = (packed << 4).view(np.int8) >> 4
    numbers[:, 1::2] = packed.view(np.int8) >> 4
    return numbers


def to_words(numbers: np.ndarray, bits: int) -> np.ndarray:
    """int8 ``[rows, inputs]`` as unsigned numbers (2^(bits - 1) added) in int32 ``[rows, words]``, the first in the
    lowest bits; the last word of a row is filled up with zeros.
    """
    per_word = WORD_BITS // bits
    missing = -numbers.shape[1] % per_word
    packed = numbers.view(np.uint8) ^ SIGN_OF_BYTE if bits == 8 else numbers.view(np.uint8) + np.uint8(1 << (bits - 1))
    if missing:
        packed = np.pad(packed, ((0, 0), (0, missing)))
    if bits == 4:
        packed = packed[:, 0::2] | (packed[:, 1::2] << 4)
    return np.ascontiguousarray(packed).view(np.int32)


def from_words(words: np.ndarray, bits: int, inputs: int) -> np.ndarray:
    """The inverse of `to_words`: int8 ``[rows, inputs]``."""
    octets = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        return np.ascontiguousarray(octets[:, :inputs] ^ SIGN_OF_BYTE).view(np.int8)
    return np.ascontiguousarray(unpack_nibbles(octets ^ SIGN_OF_NIBBLES)[:, :inputs])
