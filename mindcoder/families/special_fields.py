"""Fields of ``config.json`` that several families share and that are more than a value under another name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mindcoder.families.config_fields import ConfigFields, check_layer_types
from mindcoder.families.rotary_fields import DEFAULT_THETA, read_rotary, write_rotary
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

# What Llama's descendants without biases have in common, as fields of `TransformerConfig`.
GATED: dict[str, Any] = {"gated_mlp": True, "qkv_bias": False, "output_bias": False, "mlp_bias": False}


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


@dataclass(frozen=True)
class Rotary:
    """Theta and scaling of rotary positions, in the form of transformers 4 or 5.

    Attributes:
        default_theta: where the file lacks it.
    """

    default_theta: float = DEFAULT_THETA

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        found["position"] = "rope"
        found["rope_theta"], found["rope_scaling"] = read_rotary(
            fields, found["max_position_embeddings"], self.default_theta
        )

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        return write_rotary(config)


@dataclass(frozen=True)
class Window:
    """Tokens that a token attends to, in all layers; null means all before it.

    Attributes:
        default: where the file lacks the field; None: null.
    """

    default: int | None = None

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        given = fields.get("sliding_window", self.default)
        found["sliding_window"] = None if given is None else fields.whole("sliding_window", given)

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        return {"sliding_window": config.sliding_window}


class UsedWindow:
    """``sliding_window`` counts if ``use_sliding_window`` says so, in the layers from ``max_window_layers`` on."""

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        used, first = fields.flag("use_sliding_window", False), fields.whole("max_window_layers", 28)
        given = fields.get("sliding_window", 4096)
        window = fields.whole("sliding_window", 4096) if given is not None else None
        layers = found["num_layers"]
        if not used or first >= layers:
            window = None
        if window is not None and first > 0:
            raise ValueError(
                f"max_window_layers {first} of {layers} layers: a sliding window on part of the layers is not "
                "implemented; expected 0, or use_sliding_window false"
            )
        found["sliding_window"] = window

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        window = config.sliding_window
        return {
            "use_sliding_window": window is not None,
            "sliding_window": window,
            "max_window_layers": config.num_layers if window is None else 0,
        }


class LayerTypes:
    """``layer_types`` of newer versions, which may only repeat what ``sliding_window`` says; it is not written."""

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        windowed = found.get("sliding_window") is not None
        check_layer_types(fields, found["num_layers"], "sliding_attention" if windowed else "full_attention")

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        return {}
