"""Model families by Hugging Face ``model_type``, and the YAML file's model section as a `TransformerConfig`."""

from __future__ import annotations

from types import ModuleType

from mindcoder.config.model_section import ModelConfigSection
from mindcoder.models import gpt_bigcode, llama, starcoder2
from mindcoder.models.transformer_config import TransformerConfig

FAMILIES: dict[str, ModuleType] = {family.MODEL_TYPE: family for family in (gpt_bigcode, starcoder2, llama)}


def family_of(model_type: str) -> ModuleType:
    """The family module: ``config_from_huggingface``, ``config_to_huggingface`` and ``WEIGHTS``.

    Raises:
        ValueError: no such family.
    """
    if model_type not in FAMILIES:
        raise ValueError(f"model_type {model_type!r} is not one of {', '.join(FAMILIES)}")
    return FAMILIES[model_type]


def _first(*values: float | None, default: float) -> float:
    return next((value for value in values if value is not None), default)


def config_from_section(section: ModelConfigSection) -> TransformerConfig:
    """``model.model_config`` of a WizardCoder YAML file."""
    eos = section.eos_token_id
    return TransformerConfig(
        model_type=gpt_bigcode.MODEL_TYPE,
        vocab_size=section.vocab_size,
        hidden_size=section.hidden_size,
        num_layers=section.num_layers,
        num_heads=section.num_heads,
        num_kv_heads=section.n_kv_heads or (1 if section.multi_query else section.num_heads),
        intermediate_size=section.intermediate_size or section.expand_ratio * section.hidden_size,
        max_position_embeddings=section.n_position,
        norm_epsilon=section.layernorm_epsilon,
        initializer_range=section.initializer_range,
        embedding_dropout=_first(section.embedding_dropout_prob, section.dropout_prob, default=0.0),
        attention_dropout=_first(
            section.attention_dropout_prob, section.attention_dropout_rate, section.dropout_prob, default=0.0
        ),
        hidden_dropout=_first(
            section.hidden_dropout_prob, section.hidden_dropout_rate, section.dropout_prob, default=0.0
        ),
        param_dtype=section.param_init_type,
        compute_dtype=section.compute_dtype,
        norm_dtype=section.layernorm_dtype or section.layernorm_compute_type or "float32",
        softmax_dtype=section.softmax_dtype or section.softmax_compute_type or "float32",
        bos_token_id=section.bos_token_id,
        eos_token_id=eos[0] if isinstance(eos, list) else eos,
        pad_token_id=section.pad_token_id,
    )
