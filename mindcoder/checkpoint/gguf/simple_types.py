"""The types of 32 values with one scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 (ggml, docs/gguf.md and ggml-common.h).

A block is a float16 scale, for the ``_1`` types a float16 minimum, and the codes. Codes of 4 bits lie two in a byte:
the low nibbles are values 0 to 15, the high ones 16 to 31. The fifth bits of Q5 are a little-endian uint32 before them.

Encoding computes in float32 in ggml's order, so that equal weights give equal bytes.
"""

from __future__ import annotations

import numpy as np

from mindcoder.checkpoint.gguf.block_type import BlockType, halves, inverse, singles

VALUES = 32
HALF = np.float32(0.5)


def _nibbles(raw: np.ndarray) -> np.ndarray:
    """uint8 ``[blocks, 16]`` -> codes ``[blocks, 32]``."""
    return np.concatenate([raw & 15, raw >> 4], axis=1)


def _packed(codes: np.ndarray) -> np.ndarray:
    """The inverse of `_nibbles`, of the codes' low four bits."""
    return (codes[:, :16] & 15) | (codes[:, 16:] << 4)


def _fifth_bits(raw: np.ndarray) -> np.ndarray:
    """uint8 ``[blocks, 4]`` -> 0 or 16, ``[blocks, 32]``."""
    return np.unpackbits(np.ascontiguousarray(raw), axis=1, bitorder="little") << np.uint8(4)


def _codes_of_five(raw: np.ndarray) -> np.ndarray:
    return _nibbles(raw[:, 4:]) | _fifth_bits(raw[:, :4])


def _packed_five(codes: np.ndarray) -> np.ndarray:
    return np.concatenate([np.packbits(codes >> 4, axis=1, bitorder="little"), _packed(codes)], axis=1)


def _largest(blocks: np.ndarray) -> np.ndarray:
    """The value of largest magnitude, with its sign, ``[blocks, 1]``; the first of several."""
    return np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)


def _centred_codes(blocks: np.ndarray, center: int) -> tuple[np.ndarray, np.ndarray]:
    """(scale, codes): the value of largest magnitude becomes code 0, which stands for ``-center``."""
    scale = _largest(blocks) / np.float32(-center)
    codes = np.trunc(blocks * inverse(scale) + np.float32(center + 0.5))
    return scale, codes.astype(np.uint8).clip(0, 2 * center - 1)


def _ranged_codes(blocks: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(scale, minimum, codes): from the minimum, code 0, to the maximum, code ``top``."""
    least = blocks.min(axis=1, keepdims=True)
    scale = (blocks.max(axis=1, keepdims=True) - least) / np.float32(top)
    codes = np.trunc((blocks - least) * inverse(scale) + HALF)
    return scale, least, codes.astype(np.uint8).clip(0, top)


def _decode_q4_0(raw: np.ndarray) -> np.ndarray:
    return singles(raw[:, :2]) * (_nibbles(raw[:, 2:]).astype(np.float32) - np.float32(8))


def _encode_q4_0(blocks: np.ndarray) -> np.ndarray:
    scale, codes = _centred_codes(blocks, 8)
    return np.concatenate([halves(scale), _packed(codes)], axis=1)


def _decode_q4_1(raw: np.ndarray) -> np.ndarray:
    return singles(raw[:, :2]) * _nibbles(raw[:, 4:]).astype(np.float32) + singles(raw[:, 2:4])


def _encode_q4_1(blocks: np.ndarray) -> np.ndarray:
    scale, least, codes = _ranged_codes(blocks, 15)
    return np.concatenate([halves(scale), halves(least), _packed(codes)], axis=1)


def _decode_q5_0(raw: np.ndarray) -> np.ndarray:
    return singles(raw[:, :2]) * (_codes_of_five(raw[:, 2:]).astype(np.float32) - np.float32(16))


def _encode_q5_0(blocks: np.ndarray) -> np.ndarray:
    scale, codes = _centred_codes(blocks, 16)
    return np.concatenate([halves(scale), _packed_five(codes)], axis=1)


def _decode_q5_1(raw: np.ndarray) -> np.ndarray:
    return singles(raw[:, :2]) * _codes_of_five(raw[:, 4:]).astype(np.float32) + singles(raw[:, 2:4])


def _encode_q5_1(blocks: np.ndarray) -> np.ndarray:
    scale, least, codes = _ranged_codes(blocks, 31)
    return np.concatenate([halves(scale), halves(least), _packed_five(codes)], axis=1)


def _decode_q8_0(raw: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(raw[:, 2:]).view(np.int8).astype(np.float32) * singles(raw[:, :2])


def _encode_q8_0(blocks: np.ndarray) -> np.ndarray:
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    scaled = blocks * inverse(scale)
    whole = np.floor(np.abs(scaled))  # rounded half away from zero, as C's roundf; numpy rounds half to even
    rounded = whole + np.floor(np.float32(2) * (np.abs(scaled) - whole))
    codes = (np.sign(scaled) * rounded).astype(np.int8)
    return np.concatenate([halves(scale), codes.view(np.uint8)], axis=1)


Q4_0 = BlockType("Q4_0", 2, VALUES, 18, _decode_q4_0, _encode_q4_0)
Q4_1 = BlockType("Q4_1", 3, VALUES, 20, _decode_q4_1, _encode_q4_1)
Q5_0 = BlockType("Q5_0", 6, VALUES, 22, _decode_q5_0, _encode_q5_0)
Q5_1 = BlockType("Q5_1", 7, VALUES, 24, _decode_q5_1, _encode_q5_1)
Q8_0 = BlockType("Q8_0", 8, VALUES, 34, _decode_q8_0, _encode_q8_0)
