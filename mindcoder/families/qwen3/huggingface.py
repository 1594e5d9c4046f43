"""Qwen3 in Hugging Face's files: config.json and the names of the tensors."""

from __future__ import annotations

from mindcoder.families.base import FieldMap
from mindcoder.families.fields import Flag, Number, Only, Token, Whole
from mindcoder.families.special_fields import GATED, KeyValueHeads, LayerTypes, Rotary, Silu, UsedWindow
from mindcoder.families.weight_table import WeightTable, gated_mlp_rules, pairs, rotary_attention_rules

FIELDS = FieldMap(
    (
        Whole("vocab_size", default=151936),
        Whole("hidden_size", default=4096),
        Whole("num_layers", "num_hidden_layers", 32),
        Whole("num_heads", "num_attention_heads", 32),
        KeyValueHeads(default=32),
        Whole("head_dim", default=128),
        Whole("intermediate_size", default=22016),
        Whole("max_position_embeddings", default=32768),
        Silu(),
        Number("norm_epsilon", "rms_norm_eps", 1e-6),
        Only("attention_bias", (False,)),
        Rotary(),
        UsedWindow(),
        LayerTypes(),
        Number("initializer_range", default=0.02),
        Number("attention_dropout", default=0.0),
        Flag("tied_head", "tie_word_embeddings", False),
        Token("bos_token_id"),
        Token("eos_token_id"),
        Token("pad_token_id"),
    ),
    fixed={"norm": "rms_norm", "qk_norm": True, **GATED},
)

LAYER, OURS = "model.layers.{layer}.self_attn", "layers.{layer}.attention"
WEIGHTS = WeightTable(
    rules=(
        *rotary_attention_rules(),
        *pairs(f"{LAYER}.q_norm", f"{OURS}.query_norm"),
        *pairs(f"{LAYER}.k_norm", f"{OURS}.key_norm"),
        *gated_mlp_rules(),
    ),
    ignored=("lm_head.weight", "rotary_emb.inv_freq"),
    prefix="model.",
)
