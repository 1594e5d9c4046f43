"""Parts of Hugging Face's config.json and weight names that several families share."""

from __future__ import annotations

from typing import Literal

from mindcoder.models.config_fields import ConfigFields
from mindcoder.models.transformer_config import TransformerConfig
from mindcoder.models.weight_table import WeightRule

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


def read_activation(fields: ConfigFields, name: str) -> Literal["gelu_tanh", "gelu", "quick_gelu"]:
    """The activation of the MLP, from field ``name``.

    Raises:
        ValueError: it is not implemented.
    """
    return ACTIVATIONS[fields.choice(name, "gelu_pytorch_tanh", tuple(ACTIVATIONS))]


def write_activation(activation: str) -> str:
    """The inverse of `read_activation`."""
    return next(name for name, own in ACTIVATIONS.items() if own == activation)


def token_id_fields(config: TransformerConfig) -> dict[str, int | None]:
    """bos, eos and pad token ids under their names in config.json."""
    return {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }


def pairs(huggingface: str, ours: str) -> tuple[WeightRule, WeightRule]:
    """Rules for the weight and the bias of a module."""
    return (
        WeightRule(f"{huggingface}.weight", (f"{ours}.weight",)),
        WeightRule(f"{huggingface}.bias", (f"{ours}.bias",)),
    )


def rotary_attention_rules() -> tuple[WeightRule, ...]:
    """Rules for the tensors outside the MLP that Llama and its descendants name alike."""
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
