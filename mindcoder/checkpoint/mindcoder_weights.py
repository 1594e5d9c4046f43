"""Readers of our own formats: folders that ``convert`` writes, and training checkpoints."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mindcoder.checkpoint.companions import find_companions, find_original_config
from mindcoder.checkpoint.huggingface import read_weight_map
from mindcoder.checkpoint.plan import stored_pieces
from mindcoder.checkpoint.safetensors_file import INDEX_FILE, SINGLE_FILE
from mindcoder.checkpoint.shards import merge_shards
from mindcoder.checkpoint.store import MODEL, Checkpoint
from mindcoder.checkpoint.stored_weights import ParameterWeights
from mindcoder.data.text_format import STATE_KEY, TextFormat, text_format_of
from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TransformerConfig, config_from_dict
from mindcoder.files import file_there, read_json_object

ARCHITECTURE_FILE = "architecture.json"
RANK_FILES = "model-rank_*.safetensors"  # files of a folder that ``convert`` has split


@dataclass(frozen=True, kw_only=True)
class MindCoderFolder(ParameterWeights):
    """A folder of safetensors with `ARCHITECTURE_FILE`, whole or split over ranks."""

    kind = "mindcoder"
    title = "MindCoder folder"

    @classmethod
    def open(cls, path: Path) -> MindCoderFolder | None:
        """Open a folder; None if it is not one of ours.

        Raises:
            UserError: it is damaged.
        """
        file = path / ARCHITECTURE_FILE
        if not file_there(file):
            return None
        try:
            config = config_from_dict(read_json_object(file).get("config", {}))
        except ValueError as error:
            raise UserError(f"is not a valid network description: {error}", file) from None
        plans = merge_shards(_weight_files(path))
        return cls(
            path=path,
            config=config,
            tensors=stored_pieces(plans),
            companions=find_companions(path),
            huggingface_config=find_original_config(path),
            plans=plans,
        )


def _weight_files(folder: Path) -> list[Path]:
    ranks = sorted(folder.glob(RANK_FILES))
    if ranks:
        return ranks
    if file_there(folder / INDEX_FILE):
        return sorted({folder / name for name in read_weight_map(folder / INDEX_FILE).values()})
    if file_there(folder / SINGLE_FILE):
        return [folder / SINGLE_FILE]
    raise UserError("weight file is missing", folder / SINGLE_FILE)


def write_architecture(folder: Path, config: TransformerConfig) -> None:
    """Write the file that marks a folder of safetensors as one of ours."""
    text = json.dumps({"version": 1, "config": asdict(config)}, indent=2)
    (folder / ARCHITECTURE_FILE).write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class TrainingCheckpoint(ParameterWeights):
    """The network of a training checkpoint.

    Attributes:
        step: number of updates so far.
    """

    kind = "training checkpoint"
    title = "checkpoint"

    step: int

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> TrainingCheckpoint:
        """The weights of a verified checkpoint that holds a whole network.

        Raises:
            UserError: its state does not describe the network.
        """
        state = checkpoint.state
        try:
            config = config_from_dict(state.get("config") or state["architecture"])
        except (KeyError, ValueError) as error:
            raise UserError(f"does not describe its network: {error}", checkpoint.folder) from None
        tokenizer = tokenizer_folder(checkpoint)
        plans = checkpoint.tensors(MODEL)
        return cls(
            path=checkpoint.folder,
            config=config,
            tensors=stored_pieces(plans),
            companions=find_companions(tokenizer),
            huggingface_config=find_original_config(tokenizer),
            text_format=trained_text_format(checkpoint),
            plans=plans,
            step=checkpoint.step,
        )

    @property
    def name(self) -> str:
        """Name of the run."""
        return run_folder(self.path).resolve().name

    def describe(self) -> str:
        """A line for the log."""
        return f"{self.title} {self.path} (step {self.step})"


def run_folder(step: Path) -> Path:
    """``<run>/checkpoint/step_N`` -> ``<run>``."""
    return step.parent.parent


def tokenizer_folder(checkpoint: Checkpoint) -> Path:
    """``<run>/checkpoint/step_N`` -> ``<run>/tokenizer``."""
    return run_folder(checkpoint.folder) / "tokenizer"


def trained_text_format(checkpoint: Checkpoint) -> TextFormat:
    """Text format in the state of a run; older versions did not record it.

    Raises:
        UserError: it is corrupt.
    """
    return text_format_of(checkpoint.state.get(STATE_KEY) or {}, checkpoint.folder)
