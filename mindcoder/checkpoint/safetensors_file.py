"""Safetensors files without loading them: location of each tensor, and shards written tensor by tensor.

The format (github.com/huggingface/safetensors): eight bytes of header length, a JSON header, the tensors' bytes. The
library validates what is read; it cannot write a file larger than memory, which is why the writer is here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from safetensors import SafetensorError, safe_open

from mindcoder.checkpoint.stored_tensor import NUMPY_DTYPES, Progress, StoredTensor, no_progress
from mindcoder.errors import UserError, single_line

STEM = "model"
INDEX_FILE = f"{STEM}.safetensors.index.json"
SINGLE_FILE = f"{STEM}.safetensors"
WRITERS = 2


class WritableTensor(Protocol):
    """A tensor that can be written; `TensorPlan` is one."""

    @property
    def name(self) -> str:
        """In the file."""

    @property
    def dtype(self) -> str:
        """Its safetensors name."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""

    def write(self, out: BinaryIO, progress: Progress = no_progress) -> None:
        """Append its bytes to ``out`` (unbuffered)."""


Tensor = TypeVar("Tensor", bound=WritableTensor)


def list_safetensors(file: Path) -> dict[str, StoredTensor]:
    """Every tensor of a file.

    Raises:
        UserError: not a complete safetensors file, or an unknown dtype.
    """
    try:
        with safe_open(file, framework="numpy"):
            pass  # validates the header against the file's size
        with open(file, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"is not a valid safetensors file: {single_line(str(error), 200)}", file) from None
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] not in NUMPY_DTYPES:
            raise UserError(
                f"tensor {name} has dtype {entry['dtype']}, expected one of {', '.join(NUMPY_DTYPES)}", file
            )
        begin, end = entry["data_offsets"]
        extents = ((8 + length + begin, end - begin),)
        tensors[name] = StoredTensor(name, file, entry["dtype"], tuple(entry["shape"]), extents)
    return tensors


def read_metadata(file: Path) -> dict[str, str]:
    """The metadata strings of a file.

    Raises:
        UserError: not a complete safetensors file.
    """
    try:
        with safe_open(file, framework="numpy") as stream:
            return stream.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"is not a valid safetensors file: {single_line(str(error), 200)}", file) from None


def split_shards(plans: Sequence[Tensor], max_shard_bytes: int) -> list[list[Tensor]]:
    """Group tensors in order; a group exceeds the limit only if it has a single tensor."""
    shards: list[list[Tensor]] = [[]]
    used = 0
    for plan in plans:
        if shards[-1] and used + plan.nbytes > max_shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append(plan)
        used += plan.nbytes
    return shards


def write_safetensors(
    plans: Sequence[WritableTensor],
    folder: Path,
    max_shard_bytes: int,
    progress: Progress = no_progress,
    stem: str = STEM,
    writers: int = WRITERS,
) -> list[Path]:
    """Write ``model.safetensors``, or numbered shards and their index, into ``folder``; returns the files.

    Two shards are written at a time: the kernel does the copying and keeps one core busy for each.

    Args:
        stem: of the files' names.
        writers: shards written at a time; 1 if a tensor needs those before it.
    """
    shards = split_shards(plans, max_shard_bytes)
    if len(shards) == 1:
        return [write_file(folder / f"{stem}.safetensors", shards[0], progress)]
    files = [folder / f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(lambda file, shard: write_file(file, shard, progress), files, shards))
    weight_map = {plan.name: file.name for file, shard in zip(files, shards) for plan in shard}
    index = {"metadata": {"total_size": sum(plan.nbytes for plan in plans)}, "weight_map": weight_map}
    path = folder / f"{stem}.safetensors.index.json"
    path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return [*files, path]


def write_file(
    file: Path, plans: Sequence[WritableTensor], progress: Progress, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write one file with string metadata."""
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    offset = 0
    for plan in plans:
        header[plan.name] = {
            "dtype": plan.dtype,
            "shape": list(plan.shape),
            "data_offsets": [offset, offset + plan.nbytes],
        }
        offset += plan.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(file, "wb", buffering=0) as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for plan in plans:
            plan.write(out, progress)
    return file
