"""Writes GGUF files tensor by tensor, quantizing on the way: at most one tensor and some pieces are in memory."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mindcoder.checkpoint.gguf.block_type import BlockType
from mindcoder.checkpoint.gguf.header import DEFAULT_ALIGNMENT, MAGIC, VERSION
from mindcoder.checkpoint.gguf.tensor import QuantizedTensor
from mindcoder.checkpoint.gguf.value_types import packed, packed_text
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.stored_tensor import Progress, convert_dtype, no_progress
from mindcoder.errors import UserError

ENCODED_AT_ONCE = 1 << 17  # values; a search has some fifteen arrays of that size
WORKERS = 4  # at most


@dataclass(frozen=True)
class OutputTensor:
    """A tensor to be written.

    Attributes:
        plan: where its values come from; its name is GGUF's.
        kind: type to write.
    """

    plan: TensorPlan
    kind: BlockType

    @property
    def nbytes(self) -> int:
        """Size in the file, without padding."""
        return self.kind.byte_count(math.prod(self.plan.shape))


def write_gguf(
    file: Path, metadata: Mapping[str, Any], tensors: Sequence[OutputTensor], progress: Progress = no_progress
) -> None:
    """Write a file.

    Args:
        metadata: values by key, in the order in which they are written.
        progress: called with the number of bytes done.
    """
    with open(file, "wb", buffering=0) as out, ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)) as pool:
        head = _header(metadata, tensors)
        out.write(head + _padding(len(head)))
        for tensor in tensors:
            if tensor.kind.dtype is not None:
                tensor.plan.with_dtype(tensor.kind.dtype).write(out, progress)
            else:
                _write_blocks(out, tensor, pool, progress)
            out.write(_padding(tensor.nbytes))


def _header(metadata: Mapping[str, Any], tensors: Sequence[OutputTensor]) -> bytes:
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(metadata))]
    for key, value in metadata.items():
        parts += [packed_text(key), packed(value)]
    offset = 0
    for tensor in tensors:
        shape = tensor.plan.shape
        described = struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), tensor.kind.number, offset)
        parts += [packed_text(tensor.plan.name), described]
        offset += tensor.nbytes + len(_padding(tensor.nbytes))
    return b"".join(parts)


def _padding(size: int) -> bytes:
    return b"\0" * (-size % DEFAULT_ALIGNMENT)


def _write_blocks(out: BinaryIO, tensor: OutputTensor, pool: ThreadPoolExecutor, progress: Progress) -> None:
    for values in _pieces(tensor.plan):
        cuts = [values[at : at + ENCODED_AT_ONCE] for at in range(0, len(values), ENCODED_AT_ONCE)]
        for raw in pool.map(lambda cut: _encoded(tensor, cut), cuts):
            data = np.ascontiguousarray(raw).reshape(-1).data
            while len(data):  # an unbuffered write may be partial
                written = out.write(data)
                progress(written)
                data = data[written:]


def _encoded(tensor: OutputTensor, values: np.ndarray) -> np.ndarray:
    """Blocks of ``values``.

    Raises:
        UserError: a value is not finite, or a block's scale is beyond float16.
    """
    name, kind = tensor.plan.name, tensor.kind
    if not np.isfinite(values).all():
        raise UserError(f"{name}: found {values[~np.isfinite(values)][0]}, expected finite numbers in {kind.name}")
    try:
        with np.errstate(over="raise"):
            return kind.encode(values.reshape(-1, kind.values))
    except FloatingPointError:
        raise UserError(f"{name}: numbers up to {np.abs(values).max():.3g} are too large for {kind.name}") from None


def _pieces(plan: TensorPlan) -> Iterator[np.ndarray]:
    """The values in float32, flat, in pieces of whole blocks; a tensor that has to be built is one piece."""
    source = plan.sources[0]
    streams = source.is_plain or isinstance(source, QuantizedTensor)
    if plan.build is not None or source.shape != plan.shape or not streams:
        yield convert_dtype(plan.read(), plan.dtype, "F32").reshape(-1)
        return
    for piece in source.chunks():
        yield convert_dtype(piece, source.dtype, "F32")
