"""Hugging Face folders: reads safetensors or ``.bin`` tensors by name, sharded or not, and writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mindcoder.checkpoint.mismatch import mismatch_error
from mindcoder.checkpoint.plan import Build, TensorPlan
from mindcoder.checkpoint.safetensors_file import list_safetensors
from mindcoder.checkpoint.stored_tensor import StoredTensor
from mindcoder.checkpoint.torch_file import list_torch
from mindcoder.errors import UserError
from mindcoder.families.registry import family_of
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.families.weight_table import WeightRule
from mindcoder.files import file_there, read_json_object

WEIGHT_FILES = (  # single file, index of shards
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)


CONFIG_LIMIT = 4 << 20  # bytes of config.json; an id2label of a hundred thousand classes is the largest part


class HuggingFaceFolder:
    """A folder with ``config.json`` and weights; with ``file`` only that weight file is read.

    Attributes:
        folder: its path.
        config: the raw content of ``config.json``.
        transformer_config: our configuration built from it.
        tensors: every weight, by its name in the files.

    Raises:
        UserError: no config, no weights, a shard is missing or damaged, or the index names missing tensors.
    """

    def __init__(self, folder: str | Path, file: Path | None = None) -> None:
        self.folder = Path(folder)
        self.config, self.transformer_config = read_config(self.folder / "config.json")
        self.tensors = self._list_tensors() if file is None else list_tensors(file)

    def _list_tensors(self) -> dict[str, StoredTensor]:
        for single, index in WEIGHT_FILES:
            if file_there(self.folder / index):
                return self._list_shards(self.folder / index)
            if file_there(self.folder / single):
                return list_tensors(self.folder / single)
        raise UserError("holds neither model.safetensors nor pytorch_model.bin, nor an index of shards", self.folder)

    def _list_shards(self, index: Path) -> dict[str, StoredTensor]:
        weight_map = read_weight_map(index)
        shards = sorted({self.folder / name for name in weight_map.values()})
        tensors = {name: tensor for shard in shards for name, tensor in list_tensors(shard).items()}
        wrong = [
            f"{name} in {file}"
            for name, file in weight_map.items()
            if name not in tensors or tensors[name].file.name != file
        ]
        if wrong:
            raise mismatch_error(index, {"named but not there": wrong})
        unnamed = [name for name in tensors if name not in weight_map]
        if unnamed:
            raise mismatch_error(index, {"in the shards but not named": unnamed})
        return tensors

    def parameter_plans(self, config: TransformerConfig) -> tuple[dict[str, TensorPlan], list[str], list[str]]:
        """Plans of our parameters, the HF names that are missing, and the unexpected ones."""
        table = family_of(config.model_type).weights
        rules = list(table.expand(config))
        # Files of the bare transformer lack the prefix.
        bare = not any(rule.huggingface in self.tensors for rule in rules)
        plans: dict[str, TensorPlan] = {}
        missing, known = [], set()
        for rule in rules:
            name = rule.huggingface.removeprefix(table.prefix) if bare else rule.huggingface
            known.add(name)
            if name in self.tensors:
                plans.update(_split_plans(rule, self.tensors[name], config))
            else:
                missing.append(name)
        unexpected = [name for name in self.tensors if name not in known and not table.is_ignored(name)]
        return plans, missing, unexpected


def read_weight_map(index: Path) -> dict[str, str]:
    """Tensor -> file name of its shard, from an index file; checks that every shard exists.

    Raises:
        UserError: it is not an index, or a shard is missing.
    """
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError("is no weight index: weight_map is missing, or no object of tensor -> file", index)
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name:
            raise UserError(f"weight_map: {tensor[:60]!r} lies in {name!r:.60}, expected the name of a file", index)
    for name in sorted(set(weight_map.values())):
        if not file_there(index.with_name(name)):
            raise UserError(f"shard is missing, {index.name} names it", index.with_name(name))
    return weight_map


def list_tensors(file: Path) -> dict[str, StoredTensor]:
    """Tensors of a weight file, whose format is known from its suffix."""
    return list_torch(file) if file.suffix in (".bin", ".pt", ".pth") else list_safetensors(file)


def read_config(file: Path) -> tuple[dict[str, Any], TransformerConfig]:
    """``config.json`` and the configuration built from it.

    Raises:
        UserError: it is missing, is not JSON, or describes an unsupported model.
    """
    if not file_there(file):
        raise UserError("is no Hugging Face folder: config.json is missing", file.parent)
    values = read_json_object(file, CONFIG_LIMIT)
    try:
        return values, family_of(values.get("model_type", "")).config_from_huggingface(values)
    except ValueError as error:
        raise UserError(str(error), file) from None


def _split_plans(rule: WeightRule, source: StoredTensor, config: TransformerConfig) -> dict[str, TensorPlan]:
    """One plan per parameter that a tensor holds; a tensor that cannot be split keeps its own shape."""
    if rule.split is None:
        name = rule.ours[0]
        return {name: TensorPlan(name, source.shape, source.dtype, (source,))}
    stand_in = np.broadcast_to(np.zeros((), np.uint8), source.shape)
    try:
        shapes = [part.shape for part in rule.split(stand_in, config)]
    except ValueError:
        shapes = [source.shape] * len(rule.ours)
    return {
        name: TensorPlan(name, shape, source.dtype, (source,), _take_part(rule, index, config))
        for index, (name, shape) in enumerate(zip(rule.ours, shapes))
    }


def _take_part(rule: WeightRule, index: int, config: TransformerConfig) -> Build:
    def build(parts: Sequence[np.ndarray]) -> np.ndarray:
        assert rule.split is not None
        return rule.split(parts[0], config)[index]

    return build


def huggingface_plans(parameters: Mapping[str, TensorPlan], config: TransformerConfig) -> list[TensorPlan]:
    """Plans of the HF tensors from those of our parameters, in the order of the table."""
    plans = []
    for rule in family_of(config.model_type).weights.expand(config):
        parts = [parameters[name] for name in rule.ours]
        if rule.join is None:
            (part,) = parts
            plans.append(TensorPlan(rule.huggingface, part.shape, part.dtype, part.sources, part.build))
            continue
        stand_ins = [np.broadcast_to(np.zeros((), np.uint8), part.shape) for part in parts]
        shape = rule.join(stand_ins, config).shape
        sources = tuple(source for part in parts for source in part.sources)
        plans.append(TensorPlan(rule.huggingface, shape, parts[0].dtype, sources, _join_parts(rule, parts, config)))
    return plans


def _join_parts(rule: WeightRule, plans: Sequence[TensorPlan], config: TransformerConfig) -> Build:
    """Build the parts from their sources, then join them."""

    def build(arrays: Sequence[np.ndarray]) -> np.ndarray:
        assert rule.join is not None
        parts, first = [], 0
        for plan in plans:
            own = arrays[first : first + len(plan.sources)]
            parts.append(own[0] if plan.build is None else plan.build(own))
            first += len(plan.sources)
        return rule.join(parts, config)

    return build
