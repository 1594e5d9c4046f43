"""Llama 1 and 2, Code Llama, WizardCoder-Python (Touvron et al. 2023; Rozière et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindcoder.models.config_fields import ConfigFields, check_layer_types
from mindcoder.models.huggingface_fields import pairs, rotary_attention_rules, token_id_fields
from mindcoder.models.rotary_fields import read_rotary, write_rope_scaling
from mindcoder.models.transformer_config import TransformerConfig
from mindcoder.models.weight_table import WeightTable

MODEL_TYPE = "llama"
# pretraining_tp splits products without changing them (and transformers no longer reads it); max_sequence_length was in
# Llama 1's files beside max_position_embeddings.
HARMLESS = "pretraining_tp max_sequence_length"


def config_from_huggingface(config: Mapping[str, Any]) -> TransformerConfig:
    """Read the ``config.json`` of a ``LlamaForCausalLM`` (field names and defaults of LlamaConfig).

    Raises:
        ValueError: a field is unknown, or has a value that is not implemented for this family.
    """
    fields = ConfigFields(config)
    fields.choice("hidden_act", "silu", ("silu", "swish"))
    fields.only("rope_interleaved", (False,))
    fields.only("sliding_window", (None,))
    fields.only("use_sliding_window", (False,))
    heads, positions = fields.whole("num_attention_heads", 32), fields.whole("max_position_embeddings", 2048)
    kv_heads = fields.optional_whole("num_key_value_heads")
    theta, scaling = read_rotary(fields, positions)
    layers = fields.whole("num_hidden_layers", 32)
    check_layer_types(fields, layers, "full_attention")
    network = TransformerConfig(
        model_type=MODEL_TYPE,
        vocab_size=fields.whole("vocab_size", 32000),
        hidden_size=fields.whole("hidden_size", 4096),
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=heads if kv_heads is None else kv_heads,
        intermediate_size=fields.whole("intermediate_size", 11008),
        max_position_embeddings=positions,
        head_dim=fields.optional_whole("head_dim") or 0,
        norm="rms_norm",
        norm_epsilon=fields.number("rms_norm_eps", 1e-6),
        activation="silu",
        gated_mlp=True,
        attention_bias=fields.flag("attention_bias", False),
        mlp_bias=fields.flag("mlp_bias", False),
        position="rope",
        rope_theta=theta,
        rope_scaling=scaling,
        tied_head=fields.flag("tie_word_embeddings", False),
        initializer_range=fields.number("initializer_range", 0.02),
        attention_dropout=fields.number("attention_dropout", 0.0),
        bos_token_id=fields.token("bos_token_id", 1),
        eos_token_id=fields.token("eos_token_id", 2),
        pad_token_id=fields.token("pad_token_id"),
    )
    fields.finish("Llama", HARMLESS)
    return network


def config_to_huggingface(config: TransformerConfig) -> dict[str, Any]:
    """Write a ``config.json`` that transformers reads."""
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
