"""`Weights`: what every reader returns, whatever its files look like.

A reader is one subclass: it recognizes its files, describes what they hold, and finds the network's parameters in them.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from mindcoder.checkpoint.adapter import Prefix
from mindcoder.checkpoint.huggingface_names import plans_from_ours
from mindcoder.checkpoint.kv_scales import KvScales
from mindcoder.checkpoint.mismatch import mismatch_error
from mindcoder.checkpoint.plan import FoundPlans, TensorPlan
from mindcoder.checkpoint.stored_tensor import StoredTensor
from mindcoder.data.text_format import UNKNOWN, TextFormat
from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TOKEN_TABLES, TransformerConfig

log = logging.getLogger(__name__)

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
    "rotary_dim": "partial_rotary_factor",
}


@dataclass(frozen=True, kw_only=True)
class Weights(ABC):
    """Location and description of weights; tensors are read only on demand.

    Attributes:
        kind: short name of the format, as ``inspect`` and ``convert`` print it.
        title: its name in a sentence.
        converts_to: format that ``convert`` writes by default.
        path: of the folder or file.
        config: architecture, as described there.
        tensors: as they are stored, under their stored names.
        companions: tokenizer and configuration files that belong to them, by file name.
        huggingface_config: the ``config.json`` they originally came with.
        text_format: prompt template and tokenizer that they were trained with, if recorded.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    converts_to: ClassVar[Literal["huggingface", "mindcoder"]] = "huggingface"

    path: Path
    config: TransformerConfig
    tensors: Mapping[str, StoredTensor]
    companions: Mapping[str, Path]
    huggingface_config: Mapping[str, Any] | None = None
    text_format: TextFormat = UNKNOWN

    @abstractmethod
    def find_plans(self, config: TransformerConfig) -> FoundPlans:
        """Plans of the parameters of ``config``'s network that are stored here, in the shapes that they have here."""

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.path.resolve().name

    @property
    def prefix(self) -> Prefix | None:
        """Prefix that was learned for these weights."""
        return None

    @property
    def quantization(self) -> str:
        """How linear layers are kept, if not in floating point: ``W8A16``; else empty."""
        return ""

    @property
    def has_kv_scales(self) -> bool:
        """Whether there are scales for a KV cache in int8, measured beforehand."""
        return False

    def kv_scales(self) -> dict[int, KvScales]:
        """These scales by layer; empty if there are none.

        Raises:
            UserError: they are no such scales.
        """
        return {}

    @property
    def skipped_entries(self) -> str:
        """One line about entries that are not weights; empty if there are none."""
        return ""

    @property
    def unknown_fields(self) -> frozenset[str]:
        """Fields of ``config`` that are not stated there; they are not compared."""
        return frozenset()

    @property
    def required_fields(self) -> frozenset[str]:
        """Those of ``unknown_fields`` without which the weights cannot be interpreted."""
        return frozenset()

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
        found = self.find_plans(config)
        plans = {name: _fit_vocabulary(plan, config) for name, plan in found.plans.items()}
        shapes = [
            f"{name} {list(plan.shape)} instead of {list(expected[name])}"
            for name, plan in plans.items()
            if plan.shape != expected[name]
        ]
        if found.missing or found.unexpected or shapes:
            kinds = {"missing": found.missing, "unexpected": found.unexpected, "of another shape": shapes}
            raise mismatch_error(self.path, kinds)
        return plans

    def stored_parameters(self, config: TransformerConfig) -> dict[str, TensorPlan]:
        """Plans of what a network of ``config`` keeps: `parameters`, but the integers, scales and offsets of linear
        layers that are stored so (``weight``, ``weight_scale``, ``weight_offset``), instead of their weight in
        floating point.

        Raises:
            UserError: as `parameters`.
        """
        return self.parameters(config)

    def huggingface_plans(self) -> list[TensorPlan]:
        """Plans of the tensors of a Hugging Face folder.

        Raises:
            UserError: as `parameters`.
        """
        return plans_from_ours(self.parameters(), self.config)

    def files(self, plans: Mapping[str, TensorPlan]) -> list[Path]:
        """The files that determine the values of ``plans``, which are of these weights, sorted."""
        return sorted({file for plan in plans.values() for source in plan.sources for file in source.files})

    def describe(self) -> str:
        """A line for the log."""
        skipped = f" (left out: {self.skipped_entries})" if self.skipped_entries else ""
        return f"{self.title} {self.path}{skipped}"

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


@dataclass(frozen=True, kw_only=True)
class ParameterWeights(Weights):
    """Weights that are stored as the network's parameters, whether whole or in shards.

    Attributes:
        plans: of everything that is stored, by global name.
    """

    plans: Mapping[str, TensorPlan]

    def find_plans(self, config: TransformerConfig) -> FoundPlans:
        """The parameters by their own names."""
        return FoundPlans.by_name(self.plans, config.parameter_shapes())


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
