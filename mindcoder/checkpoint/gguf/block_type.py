"""What a tensor type of GGUF is: blocks of so many values in so many bytes, decoded and encoded by numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Decode = Callable[[np.ndarray], np.ndarray]  # uint8 [blocks, bytes] -> float32 [blocks, values]
Encode = Callable[[np.ndarray], np.ndarray]  # float32 [blocks, values] -> uint8 [blocks, bytes]


@dataclass(frozen=True)
class BlockType:
    """A tensor type.

    Attributes:
        name: as the ``gguf`` package and llama.cpp call it.
        number: of the type in a file.
        values: in one block, along a row.
        nbytes: of one block.
        decode: blocks to float32.
        encode: float32 to blocks.
        dtype: of safetensors, if a block is one number of it.
    """

    name: str
    number: int
    values: int
    nbytes: int
    decode: Decode
    encode: Encode
    dtype: str | None = None

    def byte_count(self, count: int) -> int:
        """Bytes of ``count`` values, whole blocks."""
        return count // self.values * self.nbytes


def halves(values: np.ndarray) -> np.ndarray:
    """float32 ``[blocks, 1]`` as the two bytes of its float16, ``[blocks, 2]``."""
    return np.ascontiguousarray(values.astype(np.float16)).view(np.uint8).reshape(len(values), 2)


def singles(raw: np.ndarray) -> np.ndarray:
    """The float16 in two bytes, ``[blocks, 2]``, as float32 ``[blocks, 1]``."""
    return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)


def inverse(scale: np.ndarray) -> np.ndarray:
    """1 / scale; 0 where the scale is 0."""
    with np.errstate(divide="ignore"):
        return np.where(scale == 0, np.float32(0), np.float32(1) / scale)
