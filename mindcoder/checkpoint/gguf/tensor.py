"""A quantized tensor in a GGUF file: float32 to whoever reads it, decoded piece by piece."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindcoder.checkpoint.gguf.block_type import BlockType
from mindcoder.checkpoint.gguf.header import TensorInfo
from mindcoder.checkpoint.gguf.number_types import F32
from mindcoder.checkpoint.stored_tensor import StoredTensor

DECODED_AT_ONCE = 1 << 18  # values: what is between them and the bytes stays in the processor's cache
WORKERS = 4  # at most


@dataclass(frozen=True)
class QuantizedTensor(StoredTensor):
    """A tensor of blocks.

    Attributes:
        kind: of its blocks.
    """

    kind: BlockType = F32

    @property
    def is_plain(self) -> bool:
        """Its bytes are not its values."""
        return False

    @property
    def stored_as(self) -> str:
        """Name of the blocks' type."""
        return self.kind.name

    def read(self) -> np.ndarray:
        """The values in float32, decoded by several threads."""
        out = np.empty(math.prod(self.shape), np.float32)

        def fill(begin: int) -> None:
            end = min(begin + DECODED_AT_ONCE, len(out))
            (out[begin:end],) = self._decoded(begin, end)

        with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)) as pool:
            list(pool.map(fill, range(0, len(out), DECODED_AT_ONCE)))
        return out.reshape(self.shape)

    def read_part(self, axis: int, begin: int, end: int) -> np.ndarray:
        """Indices ``begin`` to ``end`` of an axis; rows are decoded without the others."""
        if axis == 0 and len(self.shape) > 1:
            row = math.prod(self.shape[1:])
            pieces = list(self._decoded(begin * row, end * row))
            return np.concatenate([np.zeros(0, np.float32), *pieces]).reshape(end - begin, *self.shape[1:])
        return np.ascontiguousarray(self.read()[(*(slice(None) for _ in range(axis)), slice(begin, end))])

    def chunks(self) -> Iterator[np.ndarray]:
        """The values in row-major order, as flat pieces."""
        return self._decoded(0, math.prod(self.shape))

    def _decoded(self, begin: int, end: int) -> Iterator[np.ndarray]:
        """Values ``begin`` to ``end``, whole blocks."""
        (offset, _), kind = self.extents[0], self.kind
        with open(self.file, "rb", buffering=0) as stream:
            stream.seek(offset + kind.byte_count(begin))
            for start in range(begin, end, DECODED_AT_ONCE):
                count = min(DECODED_AT_ONCE, end - start)
                raw = np.fromfile(stream, np.uint8, kind.byte_count(count))
                if len(raw) != kind.byte_count(count):
                    raise OSError(f"{self.file} ends before tensor {self.name}")
                yield kind.decode(raw.reshape(-1, kind.nbytes)).reshape(-1)


def stored_tensor(info: TensorInfo, file: Path) -> StoredTensor:
    """The tensor that a header describes: its bytes where they are numbers, else its decoded blocks."""
    extents = ((info.offset, info.nbytes),)
    if info.kind.dtype is not None:
        return StoredTensor(info.name, file, info.kind.dtype, info.shape, extents)
    return QuantizedTensor(info.name, file, "F32", info.shape, extents, kind=info.kind)
