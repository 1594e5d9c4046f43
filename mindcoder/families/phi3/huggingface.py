"""Phi-3 in Hugging Face's files: config.json and the names of the tensors."""

from __future__ import annotations

from typing import Any

from mindcoder.families.base import FieldMap
from mindcoder.families.config_fields import ConfigFields
from mindcoder.families.fields import Flag, Number, Only, Token, Whole
from mindcoder.families.phi3.fused import fused_rules
from mindcoder.families.phi3.longrope import LongRotary
from mindcoder.families.special_fields import GATED, HeadDim, KeyValueHeads, LayerTypes, Silu, Window
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.families.weight_table import WeightTable, outer_rules, pairs

HARMLESS = "embd_pdrop"  # a dropout that transformers does not apply


def rotating(head_dim: int, factor: float) -> int:
    """Features of a head that rotate, 0 for all; rounded as transformers does."""
    return 0 if factor == 1 else int(head_dim * factor)


class PartialRotary:
    """``partial_rotary_factor``: the part of a head that rotates."""

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        factor = fields.number("partial_rotary_factor", 1.0)
        if not 0 < factor <= 1:
            raise ValueError(f"partial_rotary_factor: expected a number above 0 and at most 1, found {factor:g}")
        size = found["head_dim"] or found["hidden_size"] // max(found["num_heads"], 1)
        found["rotary_dim"] = rotating(size, factor)

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        return {"partial_rotary_factor": config.rotating_dim / config.head_dim}


FIELDS = FieldMap(
    (
        Whole("vocab_size", default=32064),
        Whole("hidden_size", default=3072),
        Whole("num_layers", "num_hidden_layers", 32),
        Whole("num_heads", "num_attention_heads", 32),
        KeyValueHeads(),
        HeadDim(),
        Whole("intermediate_size", default=8192),
        Whole("max_position_embeddings", default=4096),
        Silu(),
        Number("norm_epsilon", "rms_norm_eps", 1e-5),
        Only("attention_bias", (False,)),
        Only("mlp_bias", (False,)),
        PartialRotary(),
        LongRotary(),
        Window(),
        LayerTypes(),
        Number("initializer_range", default=0.02),
        Number("attention_dropout", default=0.0),
        Number("hidden_dropout", "resid_pdrop", 0.0),
        Flag("tied_head", "tie_word_embeddings", False),
        Token("bos_token_id", default=1),
        Token("eos_token_id", default=32000),
        Token("pad_token_id", default=32000),
    ),
    fixed={"norm": "rms_norm", **GATED},
    harmless=HARMLESS,
)

LAYER = "model.layers.{layer}"
WEIGHTS = WeightTable(
    rules=(
        *outer_rules(),
        *fused_rules(f"{LAYER}.self_attn.qkv_proj.weight", f"{LAYER}.mlp.gate_up_proj.weight"),
        *pairs(f"{LAYER}.mlp.down_proj", "layers.{layer}.mlp.down"),
    ),
    ignored=("lm_head.weight", "rotary_emb.inv_freq"),
    prefix="model.",
)
