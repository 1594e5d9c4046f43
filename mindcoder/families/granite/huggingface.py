"""Granite 3 in Hugging Face's files: config.json and the names of the tensors."""

from __future__ import annotations

from mindcoder.families.base import FieldMap
from mindcoder.families.config_fields import ConfigFields
from mindcoder.families.fields import Flag, Number, Only, Token, Whole
from mindcoder.families.special_fields import GATED, HeadDim, KeyValueHeads, LayerTypes, Rotary, Silu
from mindcoder.families.weight_table import WeightTable, gated_mlp_rules, rotary_attention_rules


class Multiplier(Number):
    """A number above 0."""

    def value(self, fields: ConfigFields) -> float:
        """See `Value`."""
        value = super().value(fields)
        if value <= 0:
            raise ValueError(f"{self.name}: expected a number above 0, found {value:g}")
        return value


FIELDS = FieldMap(
    (
        Whole("vocab_size", default=32000),
        Whole("hidden_size", default=4096),
        Whole("num_layers", "num_hidden_layers", 32),
        Whole("num_heads", "num_attention_heads", 32),
        KeyValueHeads(),
        HeadDim(),
        Whole("intermediate_size", default=11008),
        Whole("max_position_embeddings", default=2048),
        Silu(),
        Number("norm_epsilon", "rms_norm_eps", 1e-6),
        Only("attention_bias", (False,)),
        Only("mlp_bias", (False,)),
        Rotary(),
        LayerTypes(),
        Multiplier("embedding_multiplier", default=1.0),
        Multiplier("attention_multiplier", default=1.0),
        Multiplier("residual_multiplier", default=1.0),
        Multiplier("logits_scaling", default=1.0),
        Number("initializer_range", default=0.02),
        Number("attention_dropout", default=0.0),
        Flag("tied_head", "tie_word_embeddings", False),
        Token("bos_token_id", default=1),
        Token("eos_token_id", default=2),
        Token("pad_token_id"),
    ),
    fixed={"norm": "rms_norm", **GATED},
)

WEIGHTS = WeightTable(
    rules=(*rotary_attention_rules(), *gated_mlp_rules()),
    ignored=("lm_head.weight", "rotary_emb.inv_freq"),
    prefix="model.",
)
