"""Sharded tensors: each rank writes its part into a safetensors file that says where the part belongs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from mindcoder.checkpoint.plan import Joined, TensorPlan
from mindcoder.checkpoint.safetensors_file import list_safetensors, read_metadata
from mindcoder.checkpoint.split import PartPlan
from mindcoder.checkpoint.stored_tensor import StoredTensor
from mindcoder.errors import UserError
from mindcoder.files import honour_umask, parse_json

PARTS_KEY = "parts"  # key in a safetensors file's metadata: {tensor: {"shape": […], "axis": 0, "begin": 0}} as JSON


@dataclass(frozen=True)
class Part:
    """Some rows or columns of a tensor, or all of it.

    Attributes:
        values: of the part.
        shape: of the whole tensor.
        axis: axis that is sharded; None if this is the whole tensor.
        begin: offset of the part along that axis.
    """

    values: np.ndarray
    shape: tuple[int, ...]
    axis: int | None = None
    begin: int = 0


def whole(values: np.ndarray) -> Part:
    """A tensor that is not sharded."""
    return Part(values, values.shape)


def save_parts(file: Path, parts: Mapping[str, Part]) -> None:
    """Write a rank's parts of tensors, by name."""
    places = part_metadata(parts)
    values = {name: np.asarray(part.values, order="C") for name, part in parts.items()}
    save_file(values, file, places or None)  # no tensors with empty metadata would give an unreadable header
    honour_umask(file)


def part_metadata(parts: Mapping[str, Part] | Mapping[str, PartPlan]) -> dict[str, str]:
    """The safetensors metadata that describes where sharded tensors belong."""
    places = {
        name: {"shape": list(part.shape), "axis": part.axis, "begin": part.begin}
        for name, part in parts.items()
        if part.axis is not None
    }
    return {PARTS_KEY: json.dumps(places)} if places else {}


def merge_parts(files: Iterable[Path]) -> dict[str, TensorPlan]:
    """Every whole tensor of ``files``, by name; nothing is read yet.

    Raises:
        UserError: a file is damaged, or the parts of a tensor do not form a whole.
    """
    plans: dict[str, TensorPlan] = {}
    pieces: dict[str, list[tuple[int, StoredTensor]]] = {}
    described: dict[str, tuple[tuple[int, ...], int]] = {}
    for file in files:
        places = _places(file)
        for name, tensor in list_safetensors(file).items():
            if name not in places:
                plans[name] = TensorPlan(name, tensor.shape, tensor.dtype, (tensor,))
                continue
            shape, axis, begin = places[name]
            if described.setdefault(name, (shape, axis)) != (shape, axis) or len(tensor.shape) != len(shape):
                raise UserError(f"parts of {name} are of tensors of different shapes", file)
            pieces.setdefault(name, []).append((begin, tensor))
    for name, found in pieces.items():
        shape, axis = described[name]
        found.sort(key=lambda item: item[0])
        _check_whole(name, found, shape, axis)
        tensors = tuple(tensor for _, tensor in found)
        plans[name] = TensorPlan(name, shape, tensors[0].dtype, tensors, Joined(axis))
    return plans


def _places(file: Path) -> dict[str, tuple[tuple[int, ...], int, int]]:
    """Global shape, axis and offset of every sharded tensor in a file.

    Raises:
        UserError: the metadata are not in the form that `part_metadata` writes.
    """
    text = read_metadata(file).get(PARTS_KEY, "{}")
    try:
        found = {}
        for name, place in parse_json(text, file).items():
            shape, axis, begin = tuple(place["shape"]), place["axis"], place["begin"]
            if not all(isinstance(number, int) and number >= 0 for number in (*shape, axis, begin)):
                raise ValueError(name)
            if axis >= len(shape):
                raise ValueError(name)
            found[name] = (shape, axis, begin)
        return found
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"does not say which parts it holds: {error}", file) from None


def _check_whole(name: str, pieces: Sequence[tuple[int, StoredTensor]], shape: tuple[int, ...], axis: int) -> None:
    end = 0
    for begin, tensor in pieces:
        if begin != end:
            raise UserError(f"parts of {name} leave a gap: {end} to {begin} of axis {axis} is missing", tensor.file)
        end += tensor.shape[axis]
    if end != shape[axis]:
        raise UserError(f"parts of {name} end at {end} of {shape[axis]}", pieces[-1][1].file)
