"""StarCoder2: grouped-query attention, rotary positions, a sliding window (Lozhkov et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindcoder.models.config_fields import ConfigFields, check_layer_types
from mindcoder.models.huggingface_fields import (
    pairs,
    read_activation,
    rotary_attention_rules,
    token_id_fields,
    write_activation,
)
from mindcoder.models.rotary_fields import read_rotary, write_rope_scaling
from mindcoder.models.transformer_config import TransformerConfig
from mindcoder.models.weight_table import WeightTable

MODEL_TYPE = "starcoder2"
# The softmax is computed in float32 regardless of these, as in transformers' eager attention.
HARMLESS = "attention_softmax_in_fp32 scale_attention_softmax_in_fp32"


def config_from_huggingface(config: Mapping[str, Any]) -> TransformerConfig:
    """Read the ``config.json`` of a ``Starcoder2ForCausalLM`` (field names and defaults of Starcoder2Config).

    Raises:
        ValueError: a field is unknown, or has a value that is not implemented for this family.
    """
    fields = ConfigFields(config)
    heads, hidden = fields.whole("num_attention_heads", 24), fields.whole("hidden_size", 3072)
    epsilon, positions = fields.number("norm_epsilon", 1e-5), fields.whole("max_position_embeddings", 4096)
    biased, window = fields.flag("use_bias", True), fields.optional_whole("sliding_window")
    theta, scaling = read_rotary(fields, positions)
    fields.only("mlp_type", ("default",))
    fields.only("norm_type", ("layer_norm",))
    fields.only("scale_attn_weights", (True,))
    fields.only("layer_norm_epsilon", (epsilon,))
    fields.only("use_sliding_window", (window is not None,))
    layers = fields.whole("num_hidden_layers", 30)
    check_layer_types(fields, layers, "full_attention" if window is None else "sliding_attention")
    network = TransformerConfig(
        model_type=MODEL_TYPE,
        vocab_size=fields.whole("vocab_size", 49152),
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=fields.whole("num_key_value_heads", 2),
        intermediate_size=fields.whole("intermediate_size", 12288),
        max_position_embeddings=positions,
        head_dim=fields.optional_whole("head_dim") or 0,
        norm_epsilon=epsilon,
        activation=read_activation(fields, "hidden_act"),
        attention_bias=biased,
        mlp_bias=biased,
        position="rope",
        rope_theta=theta,
        rope_scaling=scaling,
        sliding_window=window,
        tied_head=fields.flag("tie_word_embeddings", True),
        initializer_range=fields.number("initializer_range", 0.018042),
        embedding_dropout=fields.number("embedding_dropout", 0.0),
        attention_dropout=fields.number("attention_dropout", 0.0),
        hidden_dropout=fields.number("residual_dropout", 0.0),
        bos_token_id=fields.token("bos_token_id", 50256),
        eos_token_id=fields.token("eos_token_id", 50256),
        pad_token_id=fields.token("pad_token_id"),
    )
    fields.finish("Starcoder2", HARMLESS)
    return network


def config_to_huggingface(config: TransformerConfig) -> dict[str, Any]:
    """Write a ``config.json`` that transformers reads."""
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
        **({} if config.head_dim * config.num_heads == config.hidden_size else {"head_dim": config.head_dim}),
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
