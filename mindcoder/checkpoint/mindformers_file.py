"""A ``.ckpt`` of MindFormers: detects its naming, the network, and entries that are not weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from mindcoder.checkpoint import mindformers_llama, mindformers_wizardcoder
from mindcoder.checkpoint.huggingface import read_config
from mindcoder.checkpoint.mindspore_file import list_mindspore
from mindcoder.checkpoint.stored_tensor import StoredTensor
from mindcoder.checkpoint.training_state import describe_states, split_state
from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.files import file_there

MODULES = (mindformers_wizardcoder, mindformers_llama)
NAMINGS: dict[str, ModuleType] = {module.NAMING.model_type: module for module in MODULES}


@dataclass(frozen=True)
class MindFormersFile:
    """Contents of a file.

    Attributes:
        config: the architecture, as far as the file and ``config.json`` beside it state it.
        tensors: the weights.
        skipped_entries: one line about everything else.
        unknown_fields: fields of ``config`` that neither file states.
        required_fields: those of them that differ between models of the same shapes.
        huggingface_config: ``config.json`` beside the file.
    """

    file: Path
    config: TransformerConfig
    tensors: Mapping[str, StoredTensor]
    skipped_entries: str
    unknown_fields: frozenset[str]
    required_fields: frozenset[str]
    huggingface_config: Mapping[str, Any] | None = None


def naming_of(model_type: str) -> ModuleType:
    """The naming module of a family.

    Raises:
        UserError: MindFormers has no names for it.
    """
    if model_type not in NAMINGS:
        raise UserError(f".ckpt naming of MindFormers is for {' and '.join(NAMINGS)}, not {model_type}")
    return NAMINGS[model_type]


def open_mindformers(file: Path, config_folder: Path | None = None) -> MindFormersFile:
    """Inspect a ``.ckpt``.

    Args:
        config_folder: another folder that may hold ``config.json``.

    Raises:
        UserError: it is damaged or of an unknown model, or ``config.json`` is of another family.
    """
    tensors, states = split_state(list_mindspore(file))
    module = next((module for module in NAMINGS.values() if module.recognizes(tensors)), None)
    if module is None:
        first = next(iter(tensors), None)
        found = f"its first tensor is {first}" if first else f"it holds {describe_states(states)} only"
        raise UserError(f"holds no WizardCoder or Llama of MindFormers: {found}", file)
    try:
        config = module.config_from_tensors(tensors, file)
    except ValueError as error:
        raise UserError(f"the shapes do not form a network: {error}", file) from None
    candidates = [folder / "config.json" for folder in (file.parent, *([config_folder] if config_folder else []))]
    described = next(filter(file_there, candidates), None)
    if described is None:
        unknown, required = module.UNKNOWN_FIELDS, module.REQUIRED_FIELDS
        return MindFormersFile(file, config, tensors, describe_states(states), unknown, required)
    values, told = read_config(described)
    if told.model_type != config.model_type:
        raise UserError(f"describes {told.model_type}, {file.name} beside it is {config.model_type}", described)
    config = replace(told, vocab_size=config.vocab_size)
    return MindFormersFile(file, config, tensors, describe_states(states), frozenset(), frozenset(), values)
