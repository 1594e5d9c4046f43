"""Llama in GGUF files: general.architecture llama, which Mistral's models are written as, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mindcoder.families.fields import Number
from mindcoder.families.gguf_fields import HeadSize, KeyValueHeads, Present, Rotary, size_fields
from mindcoder.families.gguf_form import ROPE_FACTORS, GgufForm, common_rules
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.families.weight_table import WeightRule, WeightTable, pairs

if TYPE_CHECKING:
    import numpy as np


def _heads(rows: int, config: TransformerConfig) -> int:
    """Heads of a tensor of ``rows`` rows: queries or keys."""
    if rows % config.head_dim:
        raise ValueError(f"{rows} rows are not a multiple of the heads' {config.head_dim}")
    return rows // config.head_dim


def _halves_first(tensor: np.ndarray, config: TransformerConfig) -> Sequence[np.ndarray]:
    """From llama.cpp's order of a head's rows, where the two of a rotary pair are neighbours, to Hugging Face's (and
    ours), where the first of all pairs come first.
    """
    heads, rest = _heads(len(tensor), config), tensor.shape[1:]
    return (tensor.reshape(heads, config.head_dim // 2, 2, *rest).swapaxes(1, 2).reshape(tensor.shape),)


def _neighbours(parts: Sequence[np.ndarray], config: TransformerConfig) -> np.ndarray:
    """The inverse of `_halves_first`."""
    (tensor,) = parts
    heads, rest = _heads(len(tensor), config), tensor.shape[1:]
    return tensor.reshape(heads, 2, config.head_dim // 2, *rest).swapaxes(1, 2).reshape(tensor.shape)


def _turned(theirs: str, ours: str) -> tuple[WeightRule, ...]:
    return tuple(
        WeightRule(
            f"blk.{{layer}}.{theirs}.{kind}",
            (f"layers.{{layer}}.attention.{ours}.{kind}",),
            _halves_first,
            _neighbours,
        )
        for kind in ("weight", "bias")
    )


def neighbouring_attention_rules() -> tuple[WeightRule, ...]:
    """Queries, keys and values of the architectures that llama.cpp rotates as it does Llama."""
    return (
        *_turned("attn_q", "query"),
        *_turned("attn_k", "key"),
        *pairs("blk.{layer}.attn_v", "layers.{layer}.attention.value"),
    )


FORM = GgufForm(
    architecture="llama",
    fields=(
        *size_fields(),
        KeyValueHeads(),
        HeadSize(may_differ=True),
        Number("norm_epsilon", "attention.layer_norm_rms_epsilon"),
        Rotary(has_factors=True),
        Present("qkv_bias", "blk.0.attn_q.bias"),
        Present("output_bias", "blk.0.attn_output.bias"),
        Present("mlp_bias", "blk.0.ffn_down.bias"),
    ),
    weights=WeightTable(
        rules=common_rules(neighbouring_attention_rules()),
        ignored=(ROPE_FACTORS,),
    ),
    fixed={
        "norm": "rms_norm",
        "gated_mlp": True,
        "activation": "silu",
        "position": "rope",
        "sliding_window": None,
        "scale_attention": True,
    },
)
