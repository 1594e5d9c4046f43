"""Readers of adapters: a LoRA or P-tuning run and a PEFT folder, and a base model with one of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindcoder.checkpoint.adapter import Adapter, Prefix, Update, check_names, merge_plans
from mindcoder.checkpoint.companions import find_companions
from mindcoder.checkpoint.kv_scales import KvScales
from mindcoder.checkpoint.mindcoder_weights import run_folder, tokenizer_folder, trained_text_format
from mindcoder.checkpoint.peft_format import peft_base, read_peft
from mindcoder.checkpoint.peft_prefix import is_peft_prefix, read_peft_prefix
from mindcoder.checkpoint.peft_settings import is_peft
from mindcoder.checkpoint.plan import FoundPlans, TensorPlan, stored_pieces
from mindcoder.checkpoint.store import MODEL, Checkpoint, find_checkpoint
from mindcoder.checkpoint.stored_weights import Weights
from mindcoder.checkpoint.trained_shapes import lora_options_of
from mindcoder.data.text_format import TextFormat, read_text_format
from mindcoder.errors import UserError
from mindcoder.families.parameter_names import LORA_A, LORA_B, MAGNITUDE
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.peft.options import PrefixOptions, adapter_shapes, prefix_shapes


class AdapterReader(ABC):
    """A saved adapter: low-rank updates of linear layers, or a prefix."""

    @property
    @abstractmethod
    def path(self) -> Path:
        """Folder of its files."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the model that it makes of its base."""

    @property
    @abstractmethod
    def base(self) -> str:
        """Location of the base model, as recorded; may be empty.

        Raises:
            UserError: the record is damaged.
        """

    @property
    @abstractmethod
    def is_prefix(self) -> bool:
        """Whether it is a prefix rather than low-rank updates."""

    @abstractmethod
    def companions(self) -> dict[str, Path]:
        """Tokenizer and configuration files that belong to it, by file name."""

    @abstractmethod
    def text_format(self) -> TextFormat:
        """Prompt template and tokenizer that it was trained with, if recorded.

        Raises:
            UserError: the record is corrupt.
        """

    @abstractmethod
    def read_updates(self, config: TransformerConfig) -> Adapter:
        """Read the updates, for a network of ``config``.

        Raises:
            UserError: it is damaged, is a prefix, or belongs to another network.
        """

    @abstractmethod
    def read_prefix(self, config: TransformerConfig) -> Prefix:
        """Read the prefix, for a network of ``config``.

        Raises:
            UserError: it is damaged, or belongs to another network.
        """


@dataclass(frozen=True)
class RunAdapter(AdapterReader):
    """The adapter that a run of ours has saved, and nothing else, in its checkpoint."""

    checkpoint: Checkpoint

    @classmethod
    def of(cls, checkpoint: Checkpoint | None) -> RunAdapter | None:
        """The adapter of a verified checkpoint; None if it holds a whole network."""
        return None if checkpoint is None or "adapter" not in checkpoint.state else cls(checkpoint)

    @property
    def path(self) -> Path:
        """Folder of the checkpoint."""
        return self.checkpoint.folder

    @property
    def name(self) -> str:
        """Name of the run."""
        return run_folder(self.path).resolve().name

    @property
    def base(self) -> str:
        """Location of the base model that it was trained on."""
        try:
            return str(self._state["base"])
        except (KeyError, TypeError):
            raise UserError("damaged checkpoint: its state does not name the adapter's base model", self.path) from None

    @property
    def is_prefix(self) -> bool:
        """Whether the run was one of P-tuning."""
        return "prefix" in self._state

    @property
    def _state(self) -> Any:
        return self.checkpoint.state["adapter"]

    def companions(self) -> dict[str, Path]:
        """The files beside the run's tokenizer."""
        return find_companions(tokenizer_folder(self.checkpoint))

    def text_format(self) -> TextFormat:
        """The one in the state."""
        return trained_text_format(self.checkpoint)

    def read_updates(self, config: TransformerConfig) -> Adapter:
        """Read the matrices of a LoRA run."""
        if self.is_prefix:
            raise UserError("is a prefix (pet_type: ptuning2), not a low-rank update", self.path)
        options = lora_options_of(self._state)
        plans = self.checkpoint.tensors(MODEL)
        shapes = adapter_shapes(options, config)
        check_names(plans, shapes, self.path)
        updates = {}
        for name in shapes:
            if name.endswith(LORA_A):
                linear = name.removesuffix(f".{LORA_A}")
                a, b = (plans[f"{linear}.{matrix}"].read().astype(np.float32) for matrix in (LORA_A, LORA_B))
                magnitude = plans[f"{linear}.{MAGNITUDE}"].read().astype(np.float32) if options.magnitudes else None
                updates[linear] = Update(a, b, options.scaling, magnitude)
        return Adapter(self.path, self.base, updates)

    def read_prefix(self, config: TransformerConfig) -> Prefix:
        """Find the prefix of a P-tuning run."""
        options = PrefixOptions(**self._state["prefix"])
        plans = self.checkpoint.tensors(MODEL)
        check_names(plans, prefix_shapes(options, config), self.path)
        return Prefix(options, plans)


@dataclass(frozen=True)
class PeftAdapter(AdapterReader):
    """A folder in PEFT's format."""

    folder: Path

    @classmethod
    def at(cls, path: Path) -> PeftAdapter | None:
        """The adapter in a folder; None if it is not one of PEFT."""
        return cls(path) if is_peft(path) else None

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @property
    def base(self) -> str:
        """``base_model_name_or_path``."""
        return peft_base(self.folder)

    @property
    def is_prefix(self) -> bool:
        """Whether ``peft_type`` says so."""
        return is_peft_prefix(self.folder)

    def companions(self) -> dict[str, Path]:
        """The files in the folder."""
        return find_companions(self.folder)

    def text_format(self) -> TextFormat:
        """The one that ``export-lora`` wrote into the folder."""
        return read_text_format(self.folder)

    def read_updates(self, config: TransformerConfig) -> Adapter:
        """Read the matrices of a LoRA adapter."""
        return read_peft(self.folder, config)

    def read_prefix(self, config: TransformerConfig) -> Prefix:
        """Find the columns of the prefix table."""
        return read_peft_prefix(self.folder, config)


def find_adapter(path: Path) -> AdapterReader:
    """The adapter of a run, a checkpoint or a PEFT folder.

    Raises:
        UserError: it is none of them, or damaged.
    """
    found = PeftAdapter.at(path) or RunAdapter.of(find_checkpoint(path))
    if found is None:
        raise UserError("is not an adapter: neither a LoRA run nor a PEFT folder", path)
    return found


@dataclass(frozen=True, kw_only=True)
class AdaptedWeights(Weights):
    """A base model with an adapter; what the adapter does not say is the base model's.

    Attributes:
        base: weights of the base model.
        adapter: saved for them.
    """

    base: Weights
    adapter: AdapterReader

    @classmethod
    def of(cls, adapter: AdapterReader, base: Weights) -> AdaptedWeights:
        """Merge low-rank updates when the weights are read; keep a prefix, which cannot be merged, beside them.

        Raises:
            UserError: the adapter is damaged, or belongs to another network.
        """
        described: dict[str, Any] = {
            "path": adapter.path,
            "config": base.config,
            "companions": {**base.companions, **adapter.companions()},
            "huggingface_config": base.huggingface_config,
            "text_format": adapter.text_format().over(base.text_format),
            "base": base,
            "adapter": adapter,
        }
        if adapter.is_prefix:
            return PrefixedWeights(tensors=base.tensors, learned=adapter.read_prefix(base.config), **described)
        parameters = base.parameters()  # first: what is wrong with the base model is said before the adapter's faults
        plans = merge_plans(parameters, adapter.read_updates(base.config))
        return MergedWeights(tensors=stored_pieces(plans), plans=plans, **described)

    @property
    def name(self) -> str:
        """Name of the adapter."""
        return self.adapter.name

    @property
    def prefix(self) -> Prefix | None:
        """The base model's."""
        return self.base.prefix

    @property
    def skipped_entries(self) -> str:
        """Entries of the base model's files."""
        return self.base.skipped_entries

    @property
    def unknown_fields(self) -> frozenset[str]:
        """Fields that the base model does not state."""
        return self.base.unknown_fields

    @property
    def required_fields(self) -> frozenset[str]:
        """Fields without which the base model cannot be interpreted."""
        return self.base.required_fields


@dataclass(frozen=True, kw_only=True)
class MergedWeights(AdaptedWeights):
    """A base model with low-rank updates merged into it.

    Attributes:
        plans: of the merged parameters.
    """

    kind = "adapter"
    title = "adapter merged into its base model"

    plans: Mapping[str, TensorPlan]

    def find_plans(self, config: TransformerConfig) -> FoundPlans:
        """The merged parameters."""
        return FoundPlans.by_name(self.plans, config.parameter_shapes())

    def files(self, plans: Mapping[str, TensorPlan]) -> list[Path]:
        """The base model's files, and the adapter's."""
        own = {file for file in self.path.iterdir() if file.is_file()}
        return sorted(own.union(self.base.files(plans)))


@dataclass(frozen=True, kw_only=True)
class PrefixedWeights(AdaptedWeights):
    """A base model, unchanged, and a prefix that was learned for it.

    Attributes:
        learned: the prefix.
    """

    kind = "prefix"
    title = "base model with the prefix"

    learned: Prefix

    @property
    def prefix(self) -> Prefix:
        """The learned prefix."""
        return self.learned

    @property
    def quantization(self) -> str:
        """The base model's: a prefix changes no weight."""
        return self.base.quantization

    @property
    def has_kv_scales(self) -> bool:
        """The base model's."""
        return self.base.has_kv_scales

    def kv_scales(self) -> dict[int, KvScales]:
        """The base model's."""
        return self.base.kv_scales()

    def find_plans(self, config: TransformerConfig) -> FoundPlans:
        """The base model's parameters."""
        return self.base.find_plans(config)

    def stored_parameters(self, config: TransformerConfig) -> dict[str, TensorPlan]:
        """The base model's."""
        return self.base.stored_parameters(config)

    def files(self, plans: Mapping[str, TensorPlan]) -> list[Path]:
        """The base model's files."""
        return self.base.files(plans)
