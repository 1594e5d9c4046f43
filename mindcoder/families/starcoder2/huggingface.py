"""StarCoder2 in Hugging Face's files: config.json and the names of the tensors."""

from __future__ import annotations

from typing import Any

from mindcoder.families.base import FieldMap
from mindcoder.families.config_fields import ConfigFields
from mindcoder.families.fields import Flag, Number, Only, Repeats, Token, Whole
from mindcoder.families.special_fields import Gelu, HeadDim, LayerTypes, Rotary
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.families.weight_table import WeightTable, pairs, rotary_attention_rules

# The softmax is computed in float32 regardless of these, as in transformers' eager attention.
HARMLESS = "attention_softmax_in_fp32 scale_attention_softmax_in_fp32"


class SlidingWindow:
    """Tokens that a token attends to; ``use_sliding_window`` may only repeat whether there is a window."""

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        window = found["sliding_window"] = fields.optional_whole("sliding_window")
        fields.only("use_sliding_window", (window is not None,))

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        return {"sliding_window": config.sliding_window}


FIELDS = FieldMap(
    (
        Whole("vocab_size", default=49152),
        Whole("hidden_size", default=3072),
        Whole("num_layers", "num_hidden_layers", 30),
        Whole("num_heads", "num_attention_heads", 24),
        Whole("num_kv_heads", "num_key_value_heads", 2),
        Whole("intermediate_size", default=12288),
        Whole("max_position_embeddings", default=4096),
        Gelu("hidden_act"),
        Number("norm_epsilon", default=1e-5),
        Repeats("layer_norm_epsilon", "norm_epsilon"),
        Only("norm_type", ("layer_norm",)),
        Only("mlp_type", ("default",)),
        Only("scale_attn_weights", (True,)),
        Flag(("qkv_bias", "output_bias", "mlp_bias"), "use_bias", True),
        Rotary(),
        SlidingWindow(),
        LayerTypes(),
        Number("initializer_range", default=0.018042),
        Number("embedding_dropout", default=0.0),
        Number("attention_dropout", default=0.0),
        Number("hidden_dropout", "residual_dropout", 0.0),
        Flag("tied_head", "tie_word_embeddings", True),
        HeadDim(),
        Token("bos_token_id", default=50256),
        Token("eos_token_id", default=50256),
        Token("pad_token_id"),
    ),
    harmless=HARMLESS,
)

WEIGHTS = WeightTable(
    rules=(
        *rotary_attention_rules(),
        *pairs("model.layers.{layer}.mlp.c_fc", "layers.{layer}.mlp.up"),
        *pairs("model.layers.{layer}.mlp.c_proj", "layers.{layer}.mlp.down"),
    ),
    ignored=("lm_head.weight", "rotary_emb.inv_freq"),
    prefix="model.",
)
