"""Gemma in GGUF files: general.architecture gemma, whose norms are stored around one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mindcoder.families.fields import Number
from mindcoder.families.gemma.huggingface import FIXED, EmbeddingScale
from mindcoder.families.gguf_fields import HeadSize, KeyValueHeads, Rotary, size_fields
from mindcoder.families.gguf_form import GgufForm, common_rules, plain_attention_rules
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.families.weight_table import WeightRule, WeightTable

if TYPE_CHECKING:
    import numpy as np


def _around_zero(tensor: np.ndarray, config: TransformerConfig) -> Sequence[np.ndarray]:
    return (tensor - tensor.dtype.type(1),)


def _around_one(parts: Sequence[np.ndarray], config: TransformerConfig) -> np.ndarray:
    (tensor,) = parts
    return tensor + tensor.dtype.type(1)


def _norms_around_one(rules: Sequence[WeightRule]) -> tuple[WeightRule, ...]:
    return tuple(
        replace(rule, split=_around_zero, join=_around_one) if rule.huggingface.endswith("norm.weight") else rule
        for rule in rules
    )


FORM = GgufForm(
    architecture="gemma",
    fields=(
        *size_fields(),
        EmbeddingScale(),
        KeyValueHeads(),
        HeadSize(may_differ=True),
        Number("norm_epsilon", "attention.layer_norm_rms_epsilon"),
        Rotary(),
    ),
    weights=WeightTable(rules=_norms_around_one(common_rules(plain_attention_rules()))),
    fixed={"position": "rope", "sliding_window": None, "scale_attention": True, "tied_head": True, **FIXED},
)
