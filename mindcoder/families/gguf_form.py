"""A family in GGUF files: its metadata keys, each declared once and read both ways, and the names of its tensors.

The keys and names are those of ggml-org/ggml, docs/gguf.md, and of the ``gguf`` package (constants.py of 0.19.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mindcoder.families.config_fields import ConfigFields, shown
from mindcoder.families.fields import Field
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.families.weight_table import WeightRule, WeightTable, pairs

Shape = tuple[int, ...]

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
ROPE_FACTORS = "rope_freqs.weight"


class GgufFields(ConfigFields):
    """The metadata of an architecture without its prefix, and the shapes of the tensors, which tell the rest.

    Args:
        values: ``embedding_length`` and so on.
        shapes: of every tensor, by GGUF's name.
        rope_factors: content of `ROPE_FACTORS`; None if it is not there.
    """

    def __init__(
        self, values: Mapping[str, Any], shapes: Mapping[str, Shape], rope_factors: tuple[float, ...] | None = None
    ) -> None:
        super().__init__(values)
        self.shapes = shapes
        self.rope_factors = rope_factors

    def get(self, name: str, default: Any = None) -> Any:
        """The raw value of a key; one without a default must be there."""
        if default is None and name not in self.values and name not in OPTIONAL:
            raise ValueError(f"{name} is missing")
        return super().get(name, default)

    def finish(self, class_name: str, harmless: str = "") -> None:
        """Refuse keys that were not read and are not known to have no effect.

        Raises:
            ValueError: names the key.
        """
        known = self.read | set(harmless.split())
        for name in self.values:
            if name not in known:
                raise ValueError(f"{name}: whether this key changes the model is not known")


# Keys whose absence means something of its own.
OPTIONAL = (
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.sliding_window",
    "rope.dimension_count",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scale_linear",
)


@dataclass(frozen=True)
class GgufForm:
    """What GGUF files say of a family.

    Attributes:
        architecture: ``general.architecture``, and the prefix of the keys.
        fields: metadata keys, in the order in which they are written.
        weights: names of the tensors.
        fixed: fields of `TransformerConfig` with one value for all such files.
        harmless: keys without effect on the network, separated by spaces.
        is_read: whether files of the architecture are read as this family, of several that are written so.
    """

    architecture: str
    fields: tuple[Field, ...]
    weights: WeightTable
    fixed: Mapping[str, Any] = field(default_factory=dict)
    harmless: str = "rope.scaling.finetuned rope.scaling.original_context_length"
    is_read: bool = True

    def read(self, model_type: str, fields: GgufFields) -> TransformerConfig:
        """The network that a file describes.

        Raises:
            ValueError: a key is missing, unknown, or has a value that is not implemented.
        """
        found: dict[str, Any] = {"model_type": model_type, **self.fixed}
        for item in self.fields:
            item.read(fields, found)
        fields.finish(self.architecture, self.harmless)
        return TransformerConfig(**found)

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """The metadata of a network, with the architecture's prefix.

        Raises:
            ValueError: GGUF has no such network.
        """
        for name, value in self.fixed.items():
            if getattr(config, name) != value:
                found, expected = shown(getattr(config, name)), shown(value)
                raise ValueError(f"{name} is {found}; every {self.architecture} of GGUF has {expected}")
        written: dict[str, Any] = {}
        for item in self.fields:
            written.update(item.write(config))
        return {f"{self.architecture}.{name}": value for name, value in written.items()}


def common_rules(attention: tuple[WeightRule, ...]) -> tuple[WeightRule, ...]:
    """Names of all tensors but those of queries, keys and values, which are ``attention``."""
    layer, ours = "blk.{layer}", "layers.{layer}"
    return (
        WeightRule(EMBEDDING, ("token_embedding.weight",)),
        WeightRule("position_embd.weight", ("position_embedding.weight",)),
        *pairs(f"{layer}.attn_norm", f"{ours}.attention_norm"),
        *attention,
        *pairs(f"{layer}.attn_output", f"{ours}.attention.output"),
        *pairs(f"{layer}.ffn_norm", f"{ours}.mlp_norm"),
        *pairs(f"{layer}.ffn_gate", f"{ours}.mlp.gate"),
        *pairs(f"{layer}.ffn_up", f"{ours}.mlp.up"),
        *pairs(f"{layer}.ffn_down", f"{ours}.mlp.down"),
        *pairs("output_norm", "final_norm"),
        WeightRule(HEAD, ("head.weight",)),
    )


def plain_attention_rules() -> tuple[WeightRule, ...]:
    """Queries, keys and values as they are."""
    layer, ours = "blk.{layer}", "layers.{layer}.attention"
    return (
        *pairs(f"{layer}.attn_q", f"{ours}.query"),
        *pairs(f"{layer}.attn_k", f"{ours}.key"),
        *pairs(f"{layer}.attn_v", f"{ours}.value"),
    )
