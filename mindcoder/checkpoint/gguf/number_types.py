"""The types whose blocks are single numbers: F32, F16, BF16."""

from __future__ import annotations

import numpy as np

from mindcoder.checkpoint.gguf.block_type import BlockType
from mindcoder.checkpoint.stored_tensor import NUMPY_DTYPES, convert_dtype


def _number_type(dtype: str, number: int) -> BlockType:
    kind = np.dtype(NUMPY_DTYPES[dtype])

    def decode(blocks: np.ndarray) -> np.ndarray:
        return convert_dtype(np.ascontiguousarray(blocks).view(kind), dtype, "F32")

    def encode(values: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(convert_dtype(values, "F32", dtype)).view(np.uint8)

    return BlockType(dtype, number, 1, kind.itemsize, decode, encode, dtype)


F32, F16, BF16 = _number_type("F32", 0), _number_type("F16", 1), _number_type("BF16", 30)
