"""Parts of Hugging Face's config.json and weight names that several families share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from mindcoder.models.transformer_config import RopeScaling, TransformerConfig
from mindcoder.models.weight_table import WeightRule

# Hugging Face's activations (transformers/activations.py). gelu and gelu_python are the exact form; gelu_new and
# gelu_pytorch_tanh are one function; quick_gelu is MindSpore's FastGeLU.
ACTIVATIONS: dict[str, Literal["gelu", "gelu_tanh", "quick_gelu"]] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "quick_gelu": "quick_gelu",
}


def read_activation(config: Mapping[str, Any], field: str) -> Literal["gelu", "gelu_tanh", "quick_gelu"]:
    """The MLP's activation, ``config[field]``.

    Raises:
        ValueError: one that is not implemented.
    """
    name = config.get(field, "gelu_pytorch_tanh")
    if name not in ACTIVATIONS:
        raise ValueError(f"{field} {name!r} is not one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def write_activation(activation: str) -> str:
    """The inverse of `read_activation`."""
    return next(name for name, own in ACTIVATIONS.items() if own == activation)


def read_rope_scaling(config: Mapping[str, Any], max_position_embeddings: int) -> RopeScaling | None:
    """``rope_scaling`` of transformers 4.x, with ``rope_type`` or the older ``type``.

    Raises:
        ValueError: a kind that is not implemented, or a field of it is missing.
    """
    values = config.get("rope_scaling")
    kind: Any = (values or {}).get("rope_type") or (values or {}).get("type") or "default"
    if not values or kind == "default":
        return None
    if kind not in ("linear", "dynamic", "llama3"):
        raise ValueError(f"rope_scaling {kind!r} is not one of linear, dynamic, llama3")
    try:
        if kind == "llama3":
            return RopeScaling(
                kind,
                float(values["factor"]),
                int(values["original_max_position_embeddings"]),
                float(values["low_freq_factor"]),
                float(values["high_freq_factor"]),
            )
        return RopeScaling(kind, float(values["factor"]), max_position_embeddings if kind == "dynamic" else 0)
    except KeyError as error:
        raise ValueError(f"rope_scaling lacks {error}") from None


def write_rope_scaling(scaling: RopeScaling | None) -> dict[str, Any] | None:
    """The inverse of `read_rope_scaling`."""
    if scaling is None:
        return None
    values: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        values["original_max_position_embeddings"] = scaling.original_length
        values["low_freq_factor"] = scaling.low_freq_factor
        values["high_freq_factor"] = scaling.high_freq_factor
    return values


def first_id(value: int | list[int] | None) -> int | None:
    """A token id where config.json may hold a list of them."""
    return (value[0] if value else None) if isinstance(value, list) else value


def token_id_fields(config: TransformerConfig) -> dict[str, int | None]:
    """Begin, end and padding ids under their names in config.json."""
    return {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }


def pairs(huggingface: str, ours: str) -> tuple[WeightRule, WeightRule]:
    """Rules of a module's weight and bias."""
    return (
        WeightRule(f"{huggingface}.weight", (f"{ours}.weight",)),
        WeightRule(f"{huggingface}.bias", (f"{ours}.bias",)),
    )


def rotary_attention_rules() -> tuple[WeightRule, ...]:
    """Names that Llama and its descendants share outside the MLP."""
    layer, ours = "model.layers.{layer}", "layers.{layer}"
    return (
        WeightRule("model.embed_tokens.weight", ("token_embedding.weight",)),
        *pairs(f"{layer}.input_layernorm", f"{ours}.attention_norm"),
        *pairs(f"{layer}.self_attn.q_proj", f"{ours}.attention.query"),
        *pairs(f"{layer}.self_attn.k_proj", f"{ours}.attention.key"),
        *pairs(f"{layer}.self_attn.v_proj", f"{ours}.attention.value"),
        *pairs(f"{layer}.self_attn.o_proj", f"{ours}.attention.output"),
        *pairs(f"{layer}.post_attention_layernorm", f"{ours}.mlp_norm"),
        *pairs("model.norm", "final_norm"),
        WeightRule("lm_head.weight", ("head.weight",)),
    )
