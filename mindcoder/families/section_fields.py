"""Keys of ``model.model_config`` that families share, as arguments of `TransformerConfig`."""

from __future__ import annotations

from typing import Any

from mindcoder.families.rope_scaling import RopeScaling, yarn_mscale
from mindcoder.families.special_fields import GATED
from mindcoder.sections.decoder_section import DecoderSection, ResidualDropout, first_given
from mindcoder.sections.gated_section import GatedSection
from mindcoder.sections.rotary_section import RotarySection, ScalingFactors

# hidden_act -> TransformerConfig.activation; all other names are the tanh approximation of GELU
OTHER_ACTIVATIONS: dict[str, Any] = {"fast_gelu": "quick_gelu", "gelu_erf": "gelu"}


def common(section: DecoderSection) -> dict[str, Any]:
    """Sizes, dtypes and token ids, which all families state alike."""
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


def residual_dropout(section: ResidualDropout, default: float) -> dict[str, Any]:
    """Norms, activation and dropout of the families with layer norms.

    Args:
        default: dropout rate of a key that is not given.
    """
    return {
        "norm_epsilon": section.layernorm_epsilon,
        "activation": OTHER_ACTIVATIONS.get(section.hidden_act, "gelu_tanh"),
        "embedding_dropout": first_given(section.embedding_dropout_prob, default=default),
        "hidden_dropout": first_given(section.hidden_dropout_prob, section.hidden_dropout_rate, default=default),
    }


def rotary(section: RotarySection) -> dict[str, Any]:
    """Positions and head size of the families with rotary positions."""
    return {
        "position": "rope",
        "max_position_embeddings": section.context_length,
        "head_dim": section.head_dim or 0,
        "rope_theta": _theta(section),
        "rope_scaling": _rope_scaling(section),
    }


def gated(section: GatedSection) -> dict[str, Any]:
    """All that Llama's descendants without biases state alike."""
    return {
        "intermediate_size": section.ffn_hidden_size,
        "norm": "rms_norm",
        "norm_epsilon": section.rms_norm_eps,
        "activation": "silu",
        **GATED,
        "tied_head": section.tie_word_embeddings,
        **common(section),
        **rotary(section),
    }


def _rope_scaling(section: RotarySection) -> RopeScaling | None:
    """``extend_method`` and ``scaling_factor``; MindFormers' PI is linear scaling, its NTK another theta."""
    method, factors = section.extend_method, section.scaling_factor
    factor = factors.factor if isinstance(factors, ScalingFactors) else factors
    if method in ("PI", "linear"):
        return RopeScaling("linear", factor)
    if method == "DYNAMIC_NTK":
        return RopeScaling("dynamic", factor, section.context_length)
    if not isinstance(factors, ScalingFactors):
        return None
    original = factors.original_max_position_embeddings or section.context_length
    if method == "LLAMA3":
        return RopeScaling("llama3", factor, original, factors.low_freq_factor, factors.high_freq_factor)
    given = factors.attention_factor or 0.0
    if method == "LONGROPE":
        short, long = (tuple(values or ()) for values in (factors.short_factor, factors.long_factor))
        return RopeScaling(
            "longrope", factor, original, short_factors=short, long_factors=long, given_attention_factor=given
        )
    mscale, all_dim = factors.mscale or 0.0, factors.mscale_all_dim or 0.0
    if not given and None not in (factors.mscale, factors.mscale_all_dim) and not (mscale and all_dim):
        # MindFormers takes the quotient with a 0, too, where Hugging Face takes it for a missing key.
        given, mscale, all_dim = yarn_mscale(factor, mscale) / yarn_mscale(factor, all_dim), 0.0, 0.0
    return RopeScaling(
        "yarn",
        factor,
        original,
        beta_fast=factors.beta_fast,
        beta_slow=factors.beta_slow,
        mscale=mscale,
        mscale_all_dim=all_dim,
        truncate=factors.truncate,
        given_attention_factor=given,
    )


def _theta(section: RotarySection) -> float:
    """``theta``, times the factor with MindFormers' NTK."""
    if section.extend_method == "NTK" and not isinstance(section.scaling_factor, ScalingFactors):
        return section.theta * section.scaling_factor
    return section.theta
