"""Phi-3 in GGUF files: general.architecture phi3."""

from __future__ import annotations

from mindcoder.families.fields import Number
from mindcoder.families.gguf_fields import HeadSize, KeyValueHeads, Rotary, Window, size_fields
from mindcoder.families.gguf_form import GgufForm, common_rules
from mindcoder.families.phi3.fused import fused_rules
from mindcoder.families.special_fields import GATED
from mindcoder.families.weight_table import WeightTable

FUSED = ("layers.{layer}.mlp.up", "layers.{layer}.mlp.gate")
FORM = GgufForm(
    architecture="phi3",
    fields=(
        *size_fields(),
        KeyValueHeads(),
        HeadSize(),
        Number("norm_epsilon", "attention.layer_norm_rms_epsilon"),
        Rotary(may_be_partial=True),
        Window(is_needed=True),
    ),
    weights=WeightTable(
        rules=(
            *(rule for rule in common_rules(()) if not rule.ours[0].startswith(FUSED)),
            *fused_rules("blk.{layer}.attn_qkv.weight", "blk.{layer}.ffn_up.weight"),
        )
    ),
    fixed={
        "norm": "rms_norm",
        "activation": "silu",
        "position": "rope",
        "scale_attention": True,
        **GATED,
    },
)
