"""Llama 1 and 2, Code Llama, WizardCoder-Python (Touvron et al. 2023; Rozière et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindcoder.models.huggingface_fields import (
    first_id,
    pairs,
    read_rope_scaling,
    rotary_attention_rules,
    token_id_fields,
    write_rope_scaling,
)
from mindcoder.models.transformer_config import TransformerConfig
from mindcoder.models.weight_table import WeightTable

MODEL_TYPE = "llama"


def config_from_huggingface(config: Mapping[str, Any]) -> TransformerConfig:
    """Read a ``config.json`` of ``LlamaForCausalLM`` (field names and defaults of LlamaConfig).

    Raises:
        ValueError: a field has a value that this family's code does not implement.
    """
    activation = config.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise ValueError(f"hidden_act {activation!r} is not silu")
    heads, positions = config.get("num_attention_heads", 32), config.get("max_position_embeddings", 2048)
    return TransformerConfig(
        model_type=MODEL_TYPE,
        vocab_size=config.get("vocab_size", 32000),
        hidden_size=config.get("hidden_size", 4096),
        num_layers=config.get("num_hidden_layers", 32),
        num_heads=heads,
        num_kv_heads=config.get("num_key_value_heads") or heads,
        intermediate_size=config.get("intermediate_size", 11008),
        max_position_embeddings=positions,
        head_dim=config.get("head_dim") or 0,
        norm="rms_norm",
        norm_epsilon=config.get("rms_norm_eps", 1e-6),
        activation="silu",
        gated_mlp=True,
        attention_bias=config.get("attention_bias", False),
        mlp_bias=config.get("mlp_bias", False),
        position="rope",
        rope_theta=config.get("rope_theta", 10000.0),
        rope_scaling=read_rope_scaling(config, positions),
        tied_head=config.get("tie_word_embeddings", False),
        initializer_range=config.get("initializer_range", 0.02),
        attention_dropout=config.get("attention_dropout", 0.0),
        bos_token_id=config.get("bos_token_id", 1),
        eos_token_id=first_id(config.get("eos_token_id", 2)),
        pad_token_id=config.get("pad_token_id"),
    )


def config_to_huggingface(config: TransformerConfig) -> dict[str, Any]:
    """The ``config.json`` that transformers reads."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": MODEL_TYPE,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_epsilon,
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        "rope_theta": config.rope_theta,
        "rope_scaling": write_rope_scaling(config.rope_scaling),
        "initializer_range": config.initializer_range,
        "attention_dropout": config.attention_dropout,
        "tie_word_embeddings": config.tied_head,
        **token_id_fields(config),
    }


WEIGHTS = WeightTable(
    rules=(
        *rotary_attention_rules(),
        *pairs("model.layers.{layer}.mlp.gate_proj", "layers.{layer}.mlp.gate"),
        *pairs("model.layers.{layer}.mlp.up_proj", "layers.{layer}.mlp.up"),
        *pairs("model.layers.{layer}.mlp.down_proj", "layers.{layer}.mlp.down"),
    ),
    ignored=("lm_head.weight", "rotary_emb.inv_freq"),
    prefix="model.",
)
