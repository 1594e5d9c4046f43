"""Maps a family's tensors, as Hugging Face or GGUF names them, to our parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from mindcoder.families.transformer_config import TransformerConfig

if TYPE_CHECKING:  # reading a YAML file needs no arrays
    import numpy as np

Split: TypeAlias = "Callable[[np.ndarray, TransformerConfig], Sequence[np.ndarray]]"
Join: TypeAlias = "Callable[[Sequence[np.ndarray], TransformerConfig], np.ndarray]"


@dataclass(frozen=True)
class WeightRule:
    """One tensor under Hugging Face's name (or GGUF's, in a table of `mindcoder.families.gguf_form`) and the parameters
    it holds.

    ``{layer}`` in the names stands for the layer index. Without ``split`` and ``join`` the tensor is the parameter.
    Splits must be views or row selections of the tensor, so that a round trip is bitwise equal.
    """

    huggingface: str
    ours: tuple[str, ...]
    split: Split | None = None
    join: Join | None = None

    def at_layer(self, layer: int) -> WeightRule:
        """The rule with the layer index filled in."""
        return WeightRule(
            self.huggingface.format(layer=layer),
            tuple(name.format(layer=layer) for name in self.ours),
            self.split,
            self.join,
        )


@dataclass(frozen=True)
class WeightTable:
    """All rules of a family.

    Attributes:
        rules: one per tensor.
        ignored: suffixes of names that files may have but that carry no information (tied heads, causal-mask buffers).
        prefix: of all names but the head's; files of the bare transformer lack it.
    """

    rules: tuple[WeightRule, ...]
    ignored: tuple[str, ...] = ()
    prefix: str = ""

    def expand(self, config: TransformerConfig) -> Iterator[WeightRule]:
        """Every rule for every layer, limited to parameters that the network has (biases, an untied head)."""
        known = config.parameter_shapes()
        for rule in self.rules:
            repeated = "{layer}" in rule.huggingface
            for filled in (rule.at_layer(layer) for layer in range(config.num_layers if repeated else 1)):
                if all(name in known for name in filled.ours):
                    yield filled

    def is_ignored(self, name: str) -> bool:
        """Whether a tensor of that name may be skipped."""
        return name.endswith(self.ignored)

    def to_ours(self, rule: WeightRule, tensor: np.ndarray, config: TransformerConfig) -> dict[str, np.ndarray]:
        """The parameters that a tensor holds, by name."""
        parts = (tensor,) if rule.split is None else rule.split(tensor, config)
        return dict(zip(rule.ours, parts, strict=True))

    def to_huggingface(
        self, rule: WeightRule, parameters: Mapping[str, np.ndarray], config: TransformerConfig
    ) -> np.ndarray:
        """Build the tensor from the parameters ``rule.ours``."""
        parts = [parameters[name] for name in rule.ours]
        return parts[0] if rule.join is None else rule.join(parts, config)


def pairs(huggingface: str, ours: str) -> tuple[WeightRule, WeightRule]:
    """Rules for the weight and the bias of a module."""
    return (
        WeightRule(f"{huggingface}.weight", (f"{ours}.weight",)),
        WeightRule(f"{huggingface}.bias", (f"{ours}.bias",)),
    )


def rotary_attention_rules() -> tuple[WeightRule, ...]:
    """Rules for the tensors outside the MLP that Llama and its descendants name alike."""
    layer, ours = "model.layers.{layer}.self_attn", "layers.{layer}.attention"
    return (
        *outer_rules(),
        *pairs(f"{layer}.q_proj", f"{ours}.query"),
        *pairs(f"{layer}.k_proj", f"{ours}.key"),
        *pairs(f"{layer}.v_proj", f"{ours}.value"),
    )


def outer_rules() -> tuple[WeightRule, ...]:
    """Those of them that are not queries, keys and values."""
    layer, ours = "model.layers.{layer}", "layers.{layer}"
    return (
        WeightRule("model.embed_tokens.weight", ("token_embedding.weight",)),
        *pairs(f"{layer}.input_layernorm", f"{ours}.attention_norm"),
        *pairs(f"{layer}.self_attn.o_proj", f"{ours}.attention.output"),
        *pairs(f"{layer}.post_attention_layernorm", f"{ours}.mlp_norm"),
        *pairs("model.norm", "final_norm"),
        WeightRule("lm_head.weight", ("head.weight",)),
    )


def gated_mlp_rules() -> tuple[WeightRule, ...]:
    """Rules for the MLP that Llama and its descendants name alike."""
    layer, ours = "model.layers.{layer}.mlp", "layers.{layer}.mlp"
    return (
        *pairs(f"{layer}.gate_proj", f"{ours}.gate"),
        *pairs(f"{layer}.up_proj", f"{ours}.up"),
        *pairs(f"{layer}.down_proj", f"{ours}.down"),
    )
