"""StarCoder2 in GGUF files: general.architecture starcoder2."""

from __future__ import annotations

from mindcoder.families.fields import Number
from mindcoder.families.gguf_fields import HeadSize, KeyValueHeads, Present, Rotary, Window, size_fields
from mindcoder.families.gguf_form import GgufForm, common_rules, plain_attention_rules
from mindcoder.families.weight_table import WeightTable

FORM = GgufForm(
    architecture="starcoder2",
    fields=(
        *size_fields(),
        KeyValueHeads(),
        HeadSize(),
        Number("norm_epsilon", "attention.layer_norm_epsilon"),
        Rotary(),
        Window(),
        Present("qkv_bias", "blk.0.attn_q.bias", needed=True),
        Present("output_bias", "blk.0.attn_output.bias", needed=True),
        Present("mlp_bias", "blk.0.ffn_down.bias", needed=True),
    ),
    weights=WeightTable(rules=common_rules(plain_attention_rules())),
    fixed={
        "norm": "layer_norm",
        "gated_mlp": False,
        "activation": "gelu_tanh",
        "position": "rope",
        "scale_attention": True,
    },
)
