"""Sharded tensors: each rank writes its shards into a safetensors file that says where they belong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from mindcoder.checkpoint.plan import Joined, TensorPlan
from mindcoder.checkpoint.safetensors_file import list_safetensors, read_metadata
from mindcoder.checkpoint.split import ShardPlan
from mindcoder.checkpoint.stored_tensor import StoredTensor
from mindcoder.errors import UserError
from mindcoder.files import honour_umask, parse_json

# Key in a safetensors file's metadata: {tensor: {"shape": […], "axis": 0, "begin": 0}} as JSON.
SHARDS_KEY = "parts"


@dataclass(frozen=True)
class Shard:
    """Some rows or columns of a tensor, or all of it.

    Attributes:
        values: of the shard.
        shape: of the whole tensor.
        axis: axis that is sharded; None if this is the whole tensor.
        begin: offset of the shard along that axis.
    """

    values: np.ndarray
    shape: tuple[int, ...]
    axis: int | None = None
    begin: int = 0


def unsharded(values: np.ndarray) -> Shard:
    """A tensor that is not sharded."""
    return Shard(values, values.shape)


def save_shards(file: Path, shards: Mapping[str, Shard]) -> None:
    """Write a rank's shards of tensors, by name."""
    metadata = shard_metadata(shards)
    values = {name: np.asarray(shard.values, order="C") for name, shard in shards.items()}
    save_file(values, file, metadata or None)  # no tensors with empty metadata would give an unreadable header
    honour_umask(file)


def shard_metadata(shards: Mapping[str, Shard] | Mapping[str, ShardPlan]) -> dict[str, str]:
    """The safetensors metadata that describes where sharded tensors belong."""
    placement = {
        name: {"shape": list(shard.shape), "axis": shard.axis, "begin": shard.begin}
        for name, shard in shards.items()
        if shard.axis is not None
    }
    return {SHARDS_KEY: json.dumps(placement)} if placement else {}


def merge_shards(files: Iterable[Path]) -> dict[str, TensorPlan]:
    """Every whole tensor of ``files``, by name; nothing is read yet.

    Raises:
        UserError: a file is damaged, or the shards of a tensor do not form a whole.
    """
    plans: dict[str, TensorPlan] = {}
    shards: dict[str, list[tuple[int, StoredTensor]]] = {}
    described: dict[str, tuple[tuple[int, ...], int]] = {}
    for file in files:
        placement = _read_placement(file)
        for name, tensor in list_safetensors(file).items():
            if name not in placement:
                plans[name] = TensorPlan(name, tensor.shape, tensor.dtype, (tensor,))
                continue
            shape, axis, begin = placement[name]
            if described.setdefault(name, (shape, axis)) != (shape, axis) or len(tensor.shape) != len(shape):
                raise UserError(f"parts of {name} are of tensors of different shapes", file)
            shards.setdefault(name, []).append((begin, tensor))
    for name, found in shards.items():
        shape, axis = described[name]
        found.sort(key=lambda item: item[0])
        _check_whole(name, found, shape, axis)
        tensors = tuple(tensor for _, tensor in found)
        plans[name] = TensorPlan(name, shape, tensors[0].dtype, tensors, Joined(axis))
    return plans


def _read_placement(file: Path) -> dict[str, tuple[tuple[int, ...], int, int]]:
    """Global shape, axis and offset of every sharded tensor in a file.

    Raises:
        UserError: the metadata are not in the form that `shard_metadata` writes.
    """
    text = read_metadata(file).get(SHARDS_KEY, "{}")
    try:
        found = {}
        for name, entry in parse_json(text, file).items():
            shape, axis, begin = tuple(entry["shape"]), entry["axis"], entry["begin"]
            if not all(isinstance(number, int) and number >= 0 for number in (*shape, axis, begin)):
                raise ValueError(name)
            if axis >= len(shape):
                raise ValueError(name)
            found[name] = (shape, axis, begin)
        return found
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"does not say which parts it holds: {error}", file) from None


def _check_whole(name: str, shards: Sequence[tuple[int, StoredTensor]], shape: tuple[int, ...], axis: int) -> None:
    end = 0
    for begin, tensor in shards:
        if begin != end:
            raise UserError(f"parts of {name} leave a gap: {end} to {begin} of axis {axis} is missing", tensor.file)
        end += tensor.shape[axis]
    if end != shape[axis]:
        raise UserError(f"parts of {name} end at {end} of {shape[axis]}", shards[-1][1].file)
