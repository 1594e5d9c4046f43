"""Granite 3 in GGUF files: general.architecture granite."""

from __future__ import annotations

from mindcoder.families.fields import Number
from mindcoder.families.gguf_fields import HeadSize, KeyValueHeads, Rotary, size_fields
from mindcoder.families.gguf_form import GgufForm, common_rules
from mindcoder.families.llama.gguf import neighbouring_attention_rules
from mindcoder.families.special_fields import GATED
from mindcoder.families.weight_table import WeightTable

FORM = GgufForm(
    architecture="granite",
    fields=(
        *size_fields(),
        KeyValueHeads(),
        HeadSize(may_differ=True),
        Number("norm_epsilon", "attention.layer_norm_rms_epsilon"),
        Rotary(),
        Number("attention_multiplier", "attention.scale", 0.0),
        Number("embedding_multiplier", "embedding_scale", 1.0),
        Number("residual_multiplier", "residual_scale", 1.0),
        Number("logits_scaling", "logit_scale"),
    ),
    weights=WeightTable(rules=common_rules(neighbouring_attention_rules())),
    fixed={"norm": "rms_norm", "activation": "silu", "position": "rope", "sliding_window": None, **GATED},
)
