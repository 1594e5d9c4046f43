"""Reads and writes ``rank_N/checkpoint_N.ckpt`` of MindFormers' distributed scripts, with a description beside them.

MindSpore's own trees come with strategy files instead, which only its semi-automatic parallel mode writes; those are
not supported here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindcoder.checkpoint.companions import find_companions, find_original_config
from mindcoder.checkpoint.mindformers.weights import naming_of
from mindcoder.checkpoint.mindspore_file import list_mindspore, write_mindspore
from mindcoder.checkpoint.plan import Build, TensorPlan
from mindcoder.checkpoint.split import check_division, rank_shards
from mindcoder.checkpoint.stored_tensor import Progress, StoredTensor
from mindcoder.checkpoint.stored_weights import ParameterWeights
from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TransformerConfig, config_from_dict
from mindcoder.files import file_there, read_json_object
from mindcoder.models.tensor_parallel import shard_axis
from mindcoder.parallel_layout import ParallelLayout

LAYOUT_FILE = "layout.json"
MOST_RANKS = 65536


def write_rank_tree(
    parameters: Mapping[str, TensorPlan],
    config: TransformerConfig,
    layout: ParallelLayout,
    folder: Path,
    progress: Progress,
) -> int:
    """Write one ``.ckpt`` per rank under MindFormers' names, and `LAYOUT_FILE`; returns the number of files."""
    naming = naming_of(config.model_type)
    for rank in range(layout.devices):
        shards = rank_shards(parameters, config, layout, rank, copies=True)
        plans = naming.plans_from_ours({name: shard.plan for name, shard in shards.items()}, config)
        file = _rank_file(folder, rank)
        file.parent.mkdir()
        write_mindspore(plans, file, progress)
    sizes = {"version": 1, "model_parallel": layout.tensor, "pipeline_stage": layout.pipeline}
    text = json.dumps({**sizes, "config": asdict(config)}, indent=2)
    (folder / LAYOUT_FILE).write_text(text + "\n", encoding="utf-8")
    return layout.devices


@dataclass(frozen=True, kw_only=True)
class RankTree(ParameterWeights):
    """A folder with `LAYOUT_FILE` and the file of each rank."""

    kind = "ckpt tree"
    title = "MindSpore checkpoints of several ranks"

    @classmethod
    def open(cls, path: Path) -> RankTree | None:
        """Open a folder; None if it has no `LAYOUT_FILE`.

        Raises:
            UserError: a file is missing or damaged.
        """
        if not file_there(path / LAYOUT_FILE):
            return None
        description = read_json_object(path / LAYOUT_FILE)
        try:
            config = config_from_dict(description.get("config", {}))
            tensor, pipeline = (_count(description, name) for name in ("model_parallel", "pipeline_stage"))
            layout = ParallelLayout(tensor=tensor, pipeline=pipeline)
            check_division(layout, config)
        except ValueError as error:
            raise UserError(f"is not a valid layout description: {error}", path / LAYOUT_FILE) from None
        ranks = []
        for rank in range(layout.devices):
            file = _rank_file(path, rank)
            if not file_there(file):
                raise UserError(f"rank {rank} of {layout.devices} is missing", file)
            ranks.append(list_mindspore(file))
        return cls(
            path=path,
            config=config,
            tensors={f"{name} of rank {rank}": found[name] for rank, found in enumerate(ranks) for name in found},
            companions=find_companions(path),
            huggingface_config=find_original_config(path),
            plans=_merged_plans(ranks, config, layout),
        )


def _merged_plans(
    ranks: Sequence[Mapping[str, StoredTensor]], config: TransformerConfig, layout: ParallelLayout
) -> dict[str, TensorPlan]:
    """Plans of our parameters from the tensors of each rank."""
    shapes = config.parameter_shapes()
    plans = {}
    naming = naming_of(config.model_type)
    for theirs, ours in naming.pairs(config.num_layers):
        pieces = [tensors[theirs] for tensors in ranks if theirs in tensors]
        axis = shard_axis(ours, config, layout.tensor)
        if ours not in shapes or not pieces:
            continue
        if axis is None:  # all ranks that have it have all of it
            pieces = pieces[:1]
        build = _joined(axis, naming.is_transposed(theirs))
        plans[ours] = TensorPlan(ours, _joined_shape(build, pieces), pieces[0].dtype, tuple(pieces), build)
    return plans


def _count(description: Mapping[str, Any], name: str) -> int:
    value = description.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_RANKS:
        raise ValueError(f"{name} must be a whole number from 1 to {MOST_RANKS}, found {value!r:.60}")
    return value


def _rank_file(folder: Path, rank: int) -> Path:
    return folder / f"rank_{rank}" / f"checkpoint_{rank}.ckpt"


def _joined_shape(build: Build, pieces: Sequence[StoredTensor]) -> tuple[int, ...]:
    """Shape of the joined pieces, without reading them.

    Raises:
        UserError: the pieces do not fit together.
    """
    try:
        return build([np.broadcast_to(np.zeros((), np.uint8), piece.shape) for piece in pieces]).shape
    except ValueError:
        shapes = " and ".join(str(list(piece.shape)) for piece in pieces[:4])
        raise UserError(f"{pieces[0].name} cannot be merged from {shapes}", pieces[0].file) from None


def _joined(axis: int | None, transposed: bool) -> Build:
    def build(pieces: Sequence[np.ndarray]) -> np.ndarray:
        upright = [piece.T if transposed else piece for piece in pieces]
        return upright[0] if axis is None else np.concatenate(upright, axis)

    return build
