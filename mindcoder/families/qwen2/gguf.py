"""Qwen2 in GGUF files: general.architecture qwen2."""

from __future__ import annotations

from mindcoder.families.fields import Number
from mindcoder.families.gguf_fields import HeadSize, KeyValueHeads, Rotary, Window, size_fields
from mindcoder.families.gguf_form import GgufForm, common_rules, plain_attention_rules
from mindcoder.families.weight_table import WeightTable

FORM = GgufForm(
    architecture="qwen2",
    fields=(
        *size_fields(),
        KeyValueHeads(),
        HeadSize(),
        Number("norm_epsilon", "attention.layer_norm_rms_epsilon"),
        Rotary(),
        Window(),
    ),
    weights=WeightTable(rules=common_rules(plain_attention_rules())),
    fixed={
        "norm": "rms_norm",
        "gated_mlp": True,
        "activation": "silu",
        "position": "rope",
        "qkv_bias": True,
        "output_bias": False,
        "mlp_bias": False,
        "scale_attention": True,
    },
)
