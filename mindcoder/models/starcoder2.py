"""StarCoder2: grouped-query attention, rotary positions, a sliding window (Lozhkov et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindcoder.models.huggingface_fields import (
    first_id,
    pairs,
    read_activation,
    read_rope_scaling,
    rotary_attention_rules,
    token_id_fields,
    write_activation,
    write_rope_scaling,
)
from mindcoder.models.transformer_config import TransformerConfig
from mindcoder.models.weight_table import WeightTable

MODEL_TYPE = "starcoder2"


def config_from_huggingface(config: Mapping[str, Any]) -> TransformerConfig:
    """Read a ``config.json`` of ``Starcoder2ForCausalLM`` (field names and defaults of Starcoder2Config).

    Raises:
        ValueError: a field has a value that this family's code does not implement.
    """
    positions = config.get("max_position_embeddings", 4096)
    return TransformerConfig(
        model_type=MODEL_TYPE,
        vocab_size=config.get("vocab_size", 49152),
        hidden_size=config.get("hidden_size", 3072),
        num_layers=config.get("num_hidden_layers", 30),
        num_heads=config.get("num_attention_heads", 24),
        num_kv_heads=config.get("num_key_value_heads", 2),
        intermediate_size=config.get("intermediate_size", 12288),
        max_position_embeddings=positions,
        norm_epsilon=config.get("norm_epsilon", 1e-5),
        activation=read_activation(config, "hidden_act"),
        attention_bias=config.get("use_bias", True),
        mlp_bias=config.get("use_bias", True),
        position="rope",
        rope_theta=config.get("rope_theta", 10000.0),
        rope_scaling=read_rope_scaling(config, positions),
        sliding_window=config.get("sliding_window"),
        tied_head=config.get("tie_word_embeddings", True),
        initializer_range=config.get("initializer_range", 0.018042),
        embedding_dropout=config.get("embedding_dropout", 0.0),
        attention_dropout=config.get("attention_dropout", 0.0),
        hidden_dropout=config.get("residual_dropout", 0.0),
        bos_token_id=config.get("bos_token_id", 50256),
        eos_token_id=first_id(config.get("eos_token_id", 50256)),
        pad_token_id=config.get("pad_token_id"),
    )


def config_to_huggingface(config: TransformerConfig) -> dict[str, Any]:
    """The ``config.json`` that transformers reads."""
    return {
        "architectures": ["Starcoder2ForCausalLM"],
        "model_type": MODEL_TYPE,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "hidden_act": write_activation(config.activation),
        "norm_epsilon": config.norm_epsilon,
        "use_bias": config.attention_bias,
        "rope_theta": config.rope_theta,
        "rope_scaling": write_rope_scaling(config.rope_scaling),
        "sliding_window": config.sliding_window,
        "initializer_range": config.initializer_range,
        "embedding_dropout": config.embedding_dropout,
        "attention_dropout": config.attention_dropout,
        "residual_dropout": config.hidden_dropout,
        "tie_word_embeddings": config.tied_head,
        **token_id_fields(config),
    }


WEIGHTS = WeightTable(
    rules=(
        *rotary_attention_rules(),
        *pairs("model.layers.{layer}.mlp.c_fc", "layers.{layer}.mlp.up"),
        *pairs("model.layers.{layer}.mlp.c_proj", "layers.{layer}.mlp.down"),
    ),
    ignored=("lm_head.weight", "rotary_emb.inv_freq"),
    prefix="model.",
)
