"""Llama in Hugging Face's files: config.json and the names of the tensors."""

from __future__ import annotations

from mindcoder.families.base import FieldMap
from mindcoder.families.fields import Flag, Number, Only, Token, Whole
from mindcoder.families.special_fields import HeadDim, KeyValueHeads, LayerTypes, Rotary, Silu
from mindcoder.families.weight_table import WeightTable, gated_mlp_rules, rotary_attention_rules

# pretraining_tp splits products without changing them (and transformers no longer reads it); max_sequence_length was in
# Llama 1's files beside max_position_embeddings.
HARMLESS = "pretraining_tp max_sequence_length"

FIELDS = FieldMap(
    (
        Whole("vocab_size", default=32000),
        Whole("hidden_size", default=4096),
        Whole("num_layers", "num_hidden_layers", 32),
        Whole("num_heads", "num_attention_heads", 32),
        KeyValueHeads(),
        HeadDim(always=True),
        Whole("intermediate_size", default=11008),
        Whole("max_position_embeddings", default=2048),
        Silu(),
        Number("norm_epsilon", "rms_norm_eps", 1e-6),
        Flag(("qkv_bias", "output_bias"), "attention_bias", False),
        Flag("mlp_bias", default=False),
        Rotary(),
        Only("rope_interleaved", (False,)),
        Only("sliding_window", (None,)),
        Only("use_sliding_window", (False,)),
        LayerTypes(),
        Number("initializer_range", default=0.02),
        Number("attention_dropout", default=0.0),
        Flag("tied_head", "tie_word_embeddings", False),
        Token("bos_token_id", default=1),
        Token("eos_token_id", default=2),
        Token("pad_token_id"),
    ),
    fixed={"norm": "rms_norm", "gated_mlp": True},
    harmless=HARMLESS,
)

WEIGHTS = WeightTable(
    rules=(*rotary_attention_rules(), *gated_mlp_rules()),
    ignored=("lm_head.weight", "rotary_emb.inv_freq"),
    prefix="model.",
)
