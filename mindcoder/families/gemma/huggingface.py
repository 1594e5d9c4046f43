"""Gemma in Hugging Face's files: config.json and the names of the tensors."""

from __future__ import annotations

from typing import Any

from mindcoder.families.base import FieldMap
from mindcoder.families.config_fields import ConfigFields
from mindcoder.families.fields import Flag, Number, Only, Token, Whole
from mindcoder.families.special_fields import GATED, LayerTypes, Rotary
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.families.weight_table import WeightTable, gated_mlp_rules, rotary_attention_rules

TANH = "gelu_pytorch_tanh"
FIXED: dict[str, Any] = {**GATED, "norm": "rms_norm", "norm_offset": 1.0, "activation": "gelu_tanh"}


def embedding_scale(hidden_size: int) -> dict[str, Any]:
    """Gemma multiplies its embeddings by the square root of their size."""
    return {"embedding_multiplier": hidden_size**0.5}


class EmbeddingScale:
    """No field says it."""

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        found.update(embedding_scale(found["hidden_size"]))

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        expected = embedding_scale(config.hidden_size)["embedding_multiplier"]
        if config.embedding_multiplier != expected:
            raise ValueError(f"embedding_multiplier is {config.embedding_multiplier:g}; this Gemma has {expected:g}")
        return {}


class TanhGelu:
    """The models were trained with GELU's tanh form. The first files said "gelu" for it, which older versions of
    transformers read so; 4.57.1 takes the exact form.
    """

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        fields.choice("hidden_act", TANH, (TANH, "gelu"))
        fields.only("hidden_activation", (None, TANH))

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        return {"hidden_act": TANH, "hidden_activation": TANH}


FIELDS = FieldMap(
    (
        Whole("vocab_size", default=256000),
        Whole("hidden_size", default=3072),
        EmbeddingScale(),
        Whole("num_layers", "num_hidden_layers", 28),
        Whole("num_heads", "num_attention_heads", 16),
        Whole("num_kv_heads", "num_key_value_heads", 16),
        Whole("head_dim", default=256),
        Whole("intermediate_size", default=24576),
        Whole("max_position_embeddings", default=8192),
        TanhGelu(),
        Number("norm_epsilon", "rms_norm_eps", 1e-6),
        Only("attention_bias", (False,)),
        Rotary(),
        Only("use_bidirectional_attention", (None, False)),
        LayerTypes(),
        Number("initializer_range", default=0.02),
        Number("attention_dropout", default=0.0),
        Flag("tied_head", "tie_word_embeddings", True),
        Token("bos_token_id", default=2),
        Token("eos_token_id", default=1),
        Token("pad_token_id", default=0),
    ),
    fixed=FIXED,
)

WEIGHTS = WeightTable(
    rules=(*rotary_attention_rules(), *gated_mlp_rules()),
    ignored=("lm_head.weight", "rotary_emb.inv_freq"),
    prefix="model.",
)
