"""Qwen3 in GGUF files: general.architecture qwen3."""

from __future__ import annotations

from mindcoder.families.fields import Number
from mindcoder.families.gguf_fields import HeadSize, KeyValueHeads, Rotary, Window, size_fields
from mindcoder.families.gguf_form import GgufForm, common_rules, plain_attention_rules
from mindcoder.families.special_fields import GATED
from mindcoder.families.weight_table import WeightTable, pairs

FORM = GgufForm(
    architecture="qwen3",
    fields=(
        *size_fields(),
        KeyValueHeads(),
        HeadSize(may_differ=True),
        Number("norm_epsilon", "attention.layer_norm_rms_epsilon"),
        Rotary(),
        Window(),
    ),
    weights=WeightTable(
        rules=common_rules(
            (
                *plain_attention_rules(),
                *pairs("blk.{layer}.attn_q_norm", "layers.{layer}.attention.query_norm"),
                *pairs("blk.{layer}.attn_k_norm", "layers.{layer}.attention.key_norm"),
            )
        )
    ),
    fixed={
        "norm": "rms_norm",
        "activation": "silu",
        "position": "rope",
        "scale_attention": True,
        "qk_norm": True,
        **GATED,
    },
)
