"""The types of 256 values with scales of scales: Q4_K, Q5_K, Q6_K (ggml-common.h, block_q4_K and so on).

Q4_K and Q5_K have eight runs of 32 values, each with a scale and a minimum of six bits; Q6_K has sixteen runs of 16
with a scale of eight bits. What the codes stand for is one float16 (two with minimums) for all of them.
"""

from __future__ import annotations

import numpy as np

from mindcoder.checkpoint.gguf.block_type import BlockType, halves, singles
from mindcoder.checkpoint.gguf.k_search import search_ranged, search_symmetric

VALUES = 256


def unpack_scales(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """12 bytes ``[blocks, 12]`` -> scales and minimums of six bits, ``[blocks, 8]`` each.

    Bytes 0 to 3 are scales 0 to 3, bytes 4 to 7 minimums 0 to 3; bytes 8 to 11 have the low four bits of scales
    (low) and minimums (high) 4 to 7, whose top two bits are those of the first eight bytes.
    """
    scales, least, low = raw[:, :4], raw[:, 4:8], raw[:, 8:]
    return (
        np.concatenate([scales & 63, (low & 15) | (scales >> 6 << 4)], axis=1),
        np.concatenate([least & 63, (low >> 4) | (least >> 6 << 4)], axis=1),
    )


def pack_scales(scales: np.ndarray, least: np.ndarray) -> np.ndarray:
    """The inverse of `unpack_scales`, of uint8."""
    first = scales[:, :4] | (scales[:, 4:] >> 4 << 6)
    second = least[:, :4] | (least[:, 4:] >> 4 << 6)
    return np.concatenate([first, second, (scales[:, 4:] & 15) | (least[:, 4:] << 4)], axis=1)


def _nibbles(raw: np.ndarray) -> np.ndarray:
    """128 bytes -> codes of four bits ``[blocks, 8, 32]``: of every 32 bytes the low nibbles, then the high ones."""
    bytes32 = raw.reshape(len(raw), 4, 1, 32)
    return np.concatenate([bytes32 & 15, bytes32 >> 4], axis=2).reshape(len(raw), 8, 32)


def _packed(codes: np.ndarray) -> np.ndarray:
    pairs = (codes & 15).reshape(len(codes), 4, 2, 32)
    return (pairs[:, :, 0] | (pairs[:, :, 1] << 4)).reshape(len(codes), 128)


def _ranged(raw: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Values of codes ``[blocks, 8, 32]``, with the scales at the beginning of ``raw``."""
    scales, least = unpack_scales(raw[:, 4:16])
    scale = singles(raw[:, :2]) * scales.astype(np.float32)
    offset = singles(raw[:, 2:4]) * least.astype(np.float32)
    return (scale[:, :, None] * codes.astype(np.float32) - offset[:, :, None]).reshape(len(raw), VALUES)


def _decode_q4_k(raw: np.ndarray) -> np.ndarray:
    return _ranged(raw, _nibbles(raw[:, 16:]))


def _encode_q4_k(blocks: np.ndarray) -> np.ndarray:
    found = search_ranged(blocks, 15)
    return np.concatenate(
        [halves(found.unit), halves(found.least_unit), pack_scales(found.scales, found.least), _packed(found.codes)],
        axis=1,
    )


def _decode_q5_k(raw: np.ndarray) -> np.ndarray:
    shifts = np.arange(8, dtype=np.uint8).reshape(1, 8, 1)
    fifth = ((raw[:, None, 16:48] >> shifts) & 1) << np.uint8(4)
    return _ranged(raw, _nibbles(raw[:, 48:]) | fifth)


def _encode_q5_k(blocks: np.ndarray) -> np.ndarray:
    found = search_ranged(blocks, 31)
    fifth = np.packbits(found.codes >> 4, axis=1, bitorder="little").reshape(len(blocks), 32)
    heads = [halves(found.unit), halves(found.least_unit), pack_scales(found.scales, found.least)]
    return np.concatenate([*heads, fifth, _packed(found.codes)], axis=1)


def _decode_q6_k(raw: np.ndarray) -> np.ndarray:
    count = len(raw)
    low = raw[:, :128].reshape(count, 2, 64)  # halves of 128 values: 64 low nibbles, then 64 high ones
    low = np.stack([low & 15, low >> 4], axis=2).reshape(count, 2, 4, 32)
    shifts = np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)
    high = (raw[:, 128:192].reshape(count, 2, 1, 32) >> shifts) & 3
    codes = (low | (high << 4)).astype(np.int8) - np.int8(32)
    scales = np.ascontiguousarray(raw[:, 192:208]).view(np.int8).astype(np.float32)
    scale = singles(raw[:, 208:]) * scales
    return (scale[:, :, None] * codes.reshape(count, 16, 16).astype(np.float32)).reshape(count, VALUES)


def _encode_q6_k(blocks: np.ndarray) -> np.ndarray:
    found = search_symmetric(blocks)
    count = len(blocks)
    codes = (found.codes + np.int8(32)).view(np.uint8).reshape(count, 2, 4, 32)
    low = codes.reshape(count, 2, 2, 64) & 15
    low = (low[:, :, 0] | (low[:, :, 1] << 4)).reshape(count, 128)
    high = codes >> 4
    high = (high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6).reshape(count, 64)
    return np.concatenate([low, high, found.scales.view(np.uint8), halves(found.unit)], axis=1)


Q4_K = BlockType("Q4_K", 12, VALUES, 144, _decode_q4_k, _encode_q4_k)
Q5_K = BlockType("Q5_K", 13, VALUES, 176, _decode_q5_k, _encode_q5_k)
Q6_K = BlockType("Q6_K", 14, VALUES, 210, _decode_q6_k, _encode_q6_k)
