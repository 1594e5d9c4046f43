"""Fields of ``config.json`` that several families share and that are more than a value under another name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mindcoder.families.config_fields import ConfigFields, check_layer_types
from mindcoder.families.rotary_fields import read_rotary, write_rope_scaling
from mindcoder.families.transformer_config import TransformerConfig

# Hugging Face's names of the MLP's activation (transformers' ACT2FN); the first of several is the one we write.
ACTIVATIONS: dict[str, Literal["gelu_tanh", "gelu", "quick_gelu"]] = {
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "quick_gelu": "quick_gelu",  # MindSpore's FastGeLU
}


def write_activation(activation: str) -> str:
    """Hugging Face's name of one of our GELUs."""
    return next(name for name, own in ACTIVATIONS.items() if own == activation)


@dataclass(frozen=True)
class Gelu:
    """The activation of an MLP without gate: one of the GELUs."""

    name: str

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        found["activation"] = ACTIVATIONS[fields.choice(self.name, "gelu_pytorch_tanh", tuple(ACTIVATIONS))]

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        return {self.name: write_activation(config.activation)}


class Silu:
    """The activation of a gated MLP, under either of its names."""

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        fields.choice("hidden_act", "silu", ("silu", "swish"))
        found["activation"] = "silu"

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        return {"hidden_act": "silu"}


@dataclass(frozen=True)
class KeyValueHeads:
    """Key/value heads; null means as many as query heads.

    Attributes:
        default: where the file lacks the field; None: null.
    """

    default: int | None = None

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        given = fields.get("num_key_value_heads", self.default)
        found["num_kv_heads"] = found["num_heads"] if given is None else fields.whole("num_key_value_heads", given)

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        return {"num_key_value_heads": config.num_kv_heads}


@dataclass(frozen=True)
class HeadDim:
    """Size of a head; null means hidden size divided by heads.

    Attributes:
        always: whether it is written where it is that quotient as well.
    """

    always: bool = False

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        found["head_dim"] = fields.optional_whole("head_dim") or 0

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        implied = config.head_dim * config.num_heads == config.hidden_size
        return {"head_dim": config.head_dim} if self.always or not implied else {}


class Rotary:
    """Theta and scaling of rotary positions, in the form of transformers 4 or 5."""

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        found["position"] = "rope"
        found["rope_theta"], found["rope_scaling"] = read_rotary(fields, found["max_position_embeddings"])

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        return {"rope_theta": config.rope_theta, "rope_scaling": write_rope_scaling(config.rope_scaling)}


class LayerTypes:
    """``layer_types`` of newer versions, which may only repeat what ``sliding_window`` says; it is not written."""

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        windowed = found.get("sliding_window") is not None
        check_layer_types(fields, found["num_layers"], "sliding_attention" if windowed else "full_attention")

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        return {}
