"""Opens weights of any kind: a Hugging Face folder, our own folder, a training checkpoint, MindFormers' ``.ckpt``."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mindcoder.checkpoint.adapter import (
    Adapter,
    Prefix,
    base_of,
    check_fit,
    is_adapter,
    is_prefix,
    merge_plans,
    read_adapter,
    read_prefix,
)
from mindcoder.checkpoint.companions import ORIGINAL_CONFIG, find_companions
from mindcoder.checkpoint.huggingface import WEIGHT_FILES, HuggingFaceFolder, read_weight_map
from mindcoder.checkpoint.mindformers_file import naming_of, open_mindformers
from mindcoder.checkpoint.mindformers_tree import find_ckpt
from mindcoder.checkpoint.mismatch import mismatch_error
from mindcoder.checkpoint.peft_format import peft_base, read_peft
from mindcoder.checkpoint.peft_prefix import is_peft_prefix, read_peft_prefix
from mindcoder.checkpoint.peft_settings import is_peft
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.rank_tree import LAYOUT_FILE, open_rank_tree
from mindcoder.checkpoint.safetensors_file import INDEX_FILE, SINGLE_FILE, list_safetensors
from mindcoder.checkpoint.shards import merge_shards
from mindcoder.checkpoint.store import MODEL, Checkpoint, find_checkpoint
from mindcoder.checkpoint.stored_tensor import StoredTensor
from mindcoder.data.text_format import STATE_KEY, UNKNOWN, TextFormat, read_text_format, text_format_of
from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TOKEN_TABLES, TransformerConfig, config_from_dict
from mindcoder.files import file_there, read_json_object
from mindcoder.locations import hub_hint, path_of, refuse_what_holds_no_weights

log = logging.getLogger(__name__)

Kind = Literal["huggingface", "mindcoder", "training checkpoint", "ckpt", "ckpt tree", "adapter", "prefix"]
ARCHITECTURE_FILE = "architecture.json"
RANK_FILES = "model-rank_*.safetensors"  # files of a folder that ``convert`` has split
PADDING_AT_MOST = 1023  # rows by which vocabularies may differ and still count as padding

# Keys of model.model_config that are named differently from the field.
YAML_KEYS = {
    "activation": "hidden_act; Hugging Face's gelu is gelu_erf there",
    "rope_theta": "theta",
    "rope_scaling": "extend_method and scaling_factor",
    "norm_epsilon": "layernorm_epsilon or rms_norm_eps",
    "num_kv_heads": "n_kv_heads",
    "tied_head": "tie_word_embeddings",
    "qkv_bias": "use_bias or qkv_has_bias",
    "output_bias": "use_bias or attn_proj_has_bias",
    "mlp_bias": "use_bias or mlp_has_bias",
    "max_position_embeddings": "n_position",
}


@dataclass(frozen=True)
class Weights:
    """Location and description of weights; tensors are read only on demand.

    Attributes:
        kind: of the location.
        path: of the folder or file.
        config: architecture, as described there.
        tensors: as they are stored, under their stored names.
        companions: tokenizer and configuration files that belong to them, by file name.
        huggingface_config: the ``config.json`` they originally came with.
        step: of a training checkpoint.
        plans: of the parameters, if several files hold shards of them.
        prefix: learned for these weights, if it is the checkpoint of one.
        skipped_entries: one line about entries that are not weights.
        unknown_fields: fields of ``config`` that are not stated there; they are not compared.
        required_fields: those of ``unknown_fields`` without which the weights cannot be interpreted.
        text_format: prompt template and tokenizer that they were trained with, if recorded.
    """

    kind: Kind
    path: Path
    config: TransformerConfig
    tensors: Mapping[str, StoredTensor]
    companions: Mapping[str, Path]
    huggingface_config: Mapping[str, Any] | None = None
    step: int | None = None
    folder: HuggingFaceFolder | None = None
    plans: Mapping[str, TensorPlan] | None = None
    prefix: Prefix | None = None
    skipped_entries: str = ""
    unknown_fields: frozenset[str] = frozenset()
    required_fields: frozenset[str] = frozenset()
    text_format: TextFormat = UNKNOWN

    def require_complete(self) -> None:
        """Refuse weights whose architecture is only known with a YAML file.

        Raises:
            UserError: names the fields that are not stated.
        """
        if self.required_fields:
            raise UserError(
                f"does not tell {', '.join(sorted(self.required_fields))}: put the model's config.json beside it",
                self.path,
            )

    def parameters(self, config: TransformerConfig | None = None) -> dict[str, TensorPlan]:
        """Plans of all parameters of ``config``'s network (its own by default), by global name.

        Embedding and head are truncated or zero-padded if the vocabularies differ by padding.

        Raises:
            UserError: lists what is missing, unexpected or of another shape.
        """
        if config is None:
            config = self.config
        else:
            self._check_architecture(config)
        expected = config.parameter_shapes()
        if self.folder is not None:
            plans, missing, unexpected = self.folder.parameter_plans(config)
        elif self.kind == "ckpt":
            plans, unexpected = naming_of(config.model_type).plans_to_ours(self.tensors, config)
            plans = {name: plans[name] for name in expected if name in plans}
            missing = [name for name in expected if name not in plans]
        else:
            stored = self.plans or {
                name: TensorPlan(name, tensor.shape, tensor.dtype, (tensor,)) for name, tensor in self.tensors.items()
            }
            plans = {name: plan for name, plan in stored.items() if name in expected}
            missing = [name for name in expected if name not in plans]
            unexpected = [name for name in stored if name not in expected]
        plans = {name: _fit_vocabulary(plan, config) for name, plan in plans.items()}
        shapes = [
            f"{name} {list(plan.shape)} instead of {list(expected[name])}"
            for name, plan in plans.items()
            if plan.shape != expected[name]
        ]
        if missing or unexpected or shapes:
            raise mismatch_error(self.path, {"missing": missing, "unexpected": unexpected, "of another shape": shapes})
        return plans

    def _check_architecture(self, config: TransformerConfig) -> None:
        theirs, ours = self.config.architecture(), config.architecture()
        if theirs["model_type"] != ours["model_type"]:
            raise UserError(
                f"is a {theirs['model_type']} model, model.model_config describes {ours['model_type']}", self.path
            )
        ignored = set(self.unknown_fields) | ({"max_position_embeddings"} if config.position == "rope" else set())
        if abs(theirs["vocab_size"] - ours["vocab_size"]) <= PADDING_AT_MOST:
            ignored.add("vocab_size")
        differing = [
            f"{name} {theirs[name]} instead of {value}" + (f" ({YAML_KEYS[name]})" if name in YAML_KEYS else "")
            for name, value in ours.items()
            if name not in ignored and theirs[name] != value
        ]
        if differing:
            raise UserError(
                f"is another model than model.model_config describes: it has {', '.join(differing)}", self.path
            )

    def describe(self) -> str:
        """A line for the log."""
        names = {
            "huggingface": "Hugging Face folder",
            "mindcoder": "MindCoder folder",
            "ckpt": "MindSpore checkpoint",
            "ckpt tree": "MindSpore checkpoints of several ranks",
            "adapter": "adapter merged into its base model",
            "prefix": "base model with the prefix",
        }
        if self.kind == "training checkpoint":
            return f"checkpoint {self.path} (step {self.step})"
        skipped = f" (left out: {self.skipped_entries})" if self.skipped_entries else ""
        return f"{names[self.kind]} {self.path}{skipped}"


def _fit_vocabulary(plan: TensorPlan, config: TransformerConfig) -> TensorPlan:
    """Resize an embedding table to the network's vocabulary if the difference is only padding."""
    rows = config.token_rows
    if plan.name not in TOKEN_TABLES or plan.shape[0] == rows:
        return plan
    if abs(plan.shape[0] - config.vocab_size) > PADDING_AT_MOST:
        return plan
    action = "cut" if plan.shape[0] > rows else "filled with zeros"
    log.info("%s: %d rows, %s to %d", plan.name, plan.shape[0], action, rows)
    return replace(plan, shape=(rows, *plan.shape[1:]))


def _adapter_checkpoint(path: Path) -> Checkpoint | None:
    """The adapter checkpoint of a LoRA run; None for a PEFT folder.

    Raises:
        UserError: it is neither.
    """
    if is_peft(path):
        return None
    checkpoint = find_checkpoint(path)
    if checkpoint is None or not is_adapter(checkpoint):
        raise UserError("is no adapter: neither a LoRA run nor a PEFT folder", path)
    return checkpoint


def open_adapter(location: str | Path, config: TransformerConfig) -> Adapter:
    """The adapter of a LoRA run, its checkpoint, or a PEFT folder, for a network of ``config``.

    Raises:
        UserError: not an adapter, damaged, or of another network.
    """
    path = path_of(location, "adapter")
    checkpoint = _adapter_checkpoint(path)
    adapter = read_peft(path, config) if checkpoint is None else read_adapter(checkpoint, config)
    check_fit(adapter, config.parameter_shapes())
    return adapter


def adapter_format(location: str | Path) -> TextFormat:
    """Prompt template and tokenizer that an adapter was trained with, if recorded.

    Raises:
        UserError: not an adapter.
    """
    path = Path(location)
    checkpoint = _adapter_checkpoint(path)
    return read_text_format(path) if checkpoint is None else _format_of(checkpoint)


def open_adapted(location: str | Path, base: str | Path | None = None) -> Weights:
    """A base model with an adapter (a LoRA run, its checkpoint, or a PEFT folder) merged into it when it is read.

    A prefix cannot be merged; it is returned beside the weights.

    Args:
        base: location of the base model; by default the one recorded in the adapter.

    Raises:
        UserError: not an adapter, its base is not found, or they do not fit.
    """
    path = path_of(location, "adapter")
    checkpoint = _adapter_checkpoint(path)
    said = base or (peft_base(path) if checkpoint is None else base_of(checkpoint))
    if not said or not Path(said).exists():
        told = f"base model {said} is not there{hub_hint(said)}" if said else "does not say what its base model is"
        raise UserError(f"{told}; merge-lora BASE ADAPTER OUT takes one from anywhere", location)
    below = open_weights(said)
    own = find_companions(path if checkpoint is None else _tokenizer_folder(checkpoint))
    adapted = replace(
        below,
        path=path if checkpoint is None else checkpoint.folder,
        companions={**below.companions, **own},
        step=None if checkpoint is None else checkpoint.step,
        text_format=adapter_format(path).over(below.text_format),
    )
    if is_peft_prefix(path) if checkpoint is None else is_prefix(checkpoint):
        read = read_peft_prefix(path, below.config) if checkpoint is None else read_prefix(checkpoint, below.config)
        return replace(adapted, kind="prefix", prefix=read)
    plans = merge_plans(below.parameters(), open_adapter(path, below.config))
    return replace(adapted, kind="adapter", tensors=stored_pieces(plans), folder=None, plans=plans)


def open_weights(location: str | Path) -> Weights:
    """Detect what ``location`` holds and open it.

    Raises:
        UserError: nothing is there, or it is unknown or damaged.
    """
    weights = _open(path_of(location))
    return weights if weights.text_format else replace(weights, text_format=read_text_format(_folder_of(weights)))


def _folder_of(weights: Weights) -> Path:
    """Folder of the files that belong to weights."""
    return weights.path if weights.path.is_dir() else weights.path.parent


def _open(path: Path) -> Weights:
    if not path.is_dir():
        file_there(path)
    if path.suffix == ".ckpt" and path.is_file():
        return _open_ckpt(path, path)
    if file_there(path / LAYOUT_FILE):
        config, tensors, plans = open_rank_tree(path)
        companions = find_companions(path)
        return Weights("ckpt tree", path, config, tensors, companions, _original_config(path), plans=plans)
    if file_there(path / ARCHITECTURE_FILE):
        return _open_own_folder(path)
    if is_peft(path):
        return open_adapted(path)
    checkpoint = find_checkpoint(path) if path.is_dir() else None
    if checkpoint is not None and is_adapter(checkpoint):
        return open_adapted(checkpoint.folder)
    if checkpoint is not None:
        return _open_training_checkpoint(checkpoint)
    if path.is_dir() and not any((path / name).is_file() for names in WEIGHT_FILES for name in names):
        ckpt = find_ckpt(path)
        if ckpt is not None:
            return _open_ckpt(path, ckpt)
    refuse_what_holds_no_weights(path)
    folder = HuggingFaceFolder(path if path.is_dir() else path.parent, None if path.is_dir() else path)
    return Weights(
        "huggingface",
        path,
        folder.transformer_config,
        folder.tensors,
        find_companions(folder.folder),
        folder.config,
        folder=folder,
    )


def _open_ckpt(path: Path, file: Path) -> Weights:
    """MindFormers' weights in ``file``, which ``path`` is or refers to."""
    folder = path if path.is_dir() else file.parent
    found = open_mindformers(file, folder)
    return Weights(
        "ckpt",
        path,
        found.config,
        found.tensors,
        {**find_companions(folder), **find_companions(file.parent)},
        found.huggingface_config,
        skipped_entries=found.skipped_entries,
        unknown_fields=found.unknown_fields,
        required_fields=found.required_fields,
    )


def write_architecture(folder: Path, config: TransformerConfig) -> None:
    """Write the file that marks a folder of safetensors as one of ours."""
    text = json.dumps({"version": 1, "config": asdict(config)}, indent=2)
    (folder / ARCHITECTURE_FILE).write_text(text + "\n", encoding="utf-8")


def _open_own_folder(path: Path) -> Weights:
    file = path / ARCHITECTURE_FILE
    try:
        config = config_from_dict(read_json_object(file).get("config", {}))
    except ValueError as error:
        raise UserError(f"is not a valid network description: {error}", file) from None
    rank_files = sorted(path.glob(RANK_FILES))
    if rank_files:
        plans = merge_shards(rank_files)
        pieces = stored_pieces(plans)
        return Weights("mindcoder", path, config, pieces, find_companions(path), _original_config(path), plans=plans)
    if file_there(path / INDEX_FILE):
        shards = sorted({path / name for name in read_weight_map(path / INDEX_FILE).values()})
    elif file_there(path / SINGLE_FILE):
        shards = [path / SINGLE_FILE]
    else:
        raise UserError("weight file is missing", path / SINGLE_FILE)
    tensors = {name: tensor for shard in shards for name, tensor in list_safetensors(shard).items()}
    return Weights("mindcoder", path, config, tensors, find_companions(path), _original_config(path))


def _open_training_checkpoint(checkpoint: Checkpoint) -> Weights:
    state = checkpoint.state
    try:
        config = config_from_dict(state.get("config") or state["architecture"])
    except (KeyError, ValueError) as error:
        raise UserError(f"does not describe its network: {error}", checkpoint.folder) from None
    tokenizer = _tokenizer_folder(checkpoint)
    plans = checkpoint.tensors(MODEL)
    return Weights(
        "training checkpoint",
        checkpoint.folder,
        config,
        stored_pieces(plans),
        find_companions(tokenizer),
        _original_config(tokenizer),
        checkpoint.step,
        plans=plans,
        text_format=_format_of(checkpoint),
    )


def _format_of(checkpoint: Checkpoint) -> TextFormat:
    """Text format in the state of a run; older versions did not record it."""
    return text_format_of(checkpoint.state.get(STATE_KEY) or {}, checkpoint.folder)


def _tokenizer_folder(checkpoint: Checkpoint) -> Path:
    """``<run>/checkpoint/step_N`` -> ``<run>/tokenizer``."""
    return checkpoint.folder.parent.parent / "tokenizer"


def stored_pieces(plans: Mapping[str, TensorPlan]) -> dict[str, StoredTensor]:
    """The stored tensors that plans are built from."""
    return {f"{plan.name} in {piece.file.name}": piece for plan in plans.values() for piece in plan.sources}


def _original_config(folder: Path) -> Mapping[str, Any] | None:
    file = folder / ORIGINAL_CONFIG
    return read_json_object(file) if file_there(file) else None
