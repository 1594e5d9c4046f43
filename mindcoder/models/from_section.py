"""Builds a `TransformerConfig` from ``model.model_config`` of the YAML file."""

from __future__ import annotations

from typing import Any

from mindcoder.config.model_section import (
    AnyModelSection,
    DecoderSection,
    LlamaSection,
    ModelConfigSection,
    ResidualDropout,
    RotarySection,
    ScalingFactors,
    StarCoder2Section,
    first_given,
)
from mindcoder.errors import UserError
from mindcoder.models import gpt_bigcode, llama, starcoder2
from mindcoder.models.transformer_config import RopeScaling, TransformerConfig

# hidden_act -> TransformerConfig.activation; all other names are the tanh approximation of GELU
OTHER_ACTIVATIONS: dict[str, Any] = {"fast_gelu": "quick_gelu", "gelu_erf": "gelu"}


def config_from_section(section: AnyModelSection) -> TransformerConfig:
    """Build the configuration from ``model.model_config`` of any family.

    Raises:
        UserError: sizes contradict each other.
    """
    try:
        if isinstance(section, StarCoder2Section):
            return _starcoder2(section)
        if isinstance(section, LlamaSection):
            return _llama(section)
        return _gpt_bigcode(section)
    except ValueError as error:
        raise UserError(f"model.model_config: {error}") from None


def _common(section: DecoderSection) -> dict[str, Any]:
    multiple = section.make_vocab_size_divisible_by
    return {
        "vocab_size": section.vocab_size,
        "padded_vocab_size": -(-section.vocab_size // multiple) * multiple,
        "hidden_size": section.hidden_size,
        "num_layers": section.num_layers,
        "num_heads": section.num_heads,
        "num_kv_heads": section.kv_heads,
        "attention_dropout": section.attention_dropout,
        "initializer_range": section.init_std,
        "embedding_deviation": section.embedding_init_std,
        "param_dtype": section.param_init_type,
        "embedding_dtype": section.embedding_init_type or section.param_init_type,
        "compute_dtype": section.compute_dtype,
        "norm_dtype": section.norm_dtype,
        "softmax_dtype": section.attention_softmax_dtype,
        "bos_token_id": section.bos_token_id,
        "eos_token_id": section.eos_ids[0] if section.eos_ids else None,
        "pad_token_id": section.pad_id,
    }


def _residual_dropout(section: ResidualDropout, default: float) -> dict[str, Any]:
    return {
        "norm_epsilon": section.layernorm_epsilon,
        "activation": OTHER_ACTIVATIONS.get(section.hidden_act, "gelu_tanh"),
        "embedding_dropout": first_given(section.embedding_dropout_prob, default=default),
        "hidden_dropout": first_given(section.hidden_dropout_prob, section.hidden_dropout_rate, default=default),
    }


def _rotary(section: RotarySection) -> dict[str, Any]:
    return {
        "position": "rope",
        "max_position_embeddings": section.context_length,
        "head_dim": section.head_dim or 0,
        "rope_theta": section.theta,
        "rope_scaling": _rope_scaling(section),
    }


def _rope_scaling(section: RotarySection) -> RopeScaling | None:
    """``extend_method`` and ``scaling_factor``; MindFormers' PI is linear scaling."""
    factors = section.scaling_factor
    if isinstance(factors, ScalingFactors):
        return RopeScaling(
            "llama3",
            factors.factor,
            factors.original_max_position_embeddings,
            factors.low_freq_factor,
            factors.high_freq_factor,
        )
    if section.extend_method in ("PI", "linear"):
        return RopeScaling("linear", factors)
    if section.extend_method == "DYNAMIC_NTK":
        return RopeScaling("dynamic", factors, section.context_length)
    return None


def _gpt_bigcode(section: ModelConfigSection) -> TransformerConfig:
    return TransformerConfig(
        model_type=gpt_bigcode.MODEL_TYPE,
        intermediate_size=section.ffn_hidden_size,
        max_position_embeddings=section.n_position,
        **_common(section),
        **_residual_dropout(section, section.dropout),
    )


def _starcoder2(section: StarCoder2Section) -> TransformerConfig:
    return TransformerConfig(
        model_type=starcoder2.MODEL_TYPE,
        intermediate_size=section.ffn_hidden_size,
        attention_bias=section.use_bias,
        mlp_bias=section.use_bias,
        sliding_window=section.sliding_window,
        tied_head=section.tie_word_embeddings,
        **_common(section),
        **_rotary(section),
        **_residual_dropout(section, section.dropout),
    )


def _llama(section: LlamaSection) -> TransformerConfig:
    return TransformerConfig(
        model_type=llama.MODEL_TYPE,
        intermediate_size=section.ffn_hidden_size,
        norm="rms_norm",
        norm_epsilon=section.rms_norm_eps,
        activation="silu",
        gated_mlp=True,
        attention_bias=section.qkv_has_bias,
        mlp_bias=section.mlp_has_bias,
        tied_head=section.tie_word_embeddings,
        **_common(section),
        **_rotary(section),
    )
