"""Phi-3's fused matrices, which our layers have apart: queries, keys and values; gate and up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mindcoder.families.rotary_order import in_our_order, in_their_order
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.families.weight_table import WeightRule

if TYPE_CHECKING:
    import numpy as np

ATTENTION = tuple(f"layers.{{layer}}.attention.{part}.weight" for part in ("query", "key", "value"))
MLP = ("layers.{layer}.mlp.gate.weight", "layers.{layer}.mlp.up.weight")


def _split_attention(tensor: np.ndarray, config: TransformerConfig) -> Sequence[np.ndarray]:
    """``[N*D + 2*K*D, *]``: query rows, key rows, value rows."""
    query, keys = config.query_size, config.query_size + config.kv_size
    if len(tensor) != keys + config.kv_size:
        raise ValueError(f"{len(tensor)} rows, expected {keys + config.kv_size}")
    return (
        in_our_order(tensor[:query], config),
        in_our_order(tensor[query:keys], config),
        tensor[keys:],
    )


def _join_attention(parts: Sequence[np.ndarray], config: TransformerConfig) -> np.ndarray:
    """The inverse of `_split_attention`."""
    import numpy as np  # not above: reading a YAML file needs no arrays

    query, key, value = parts
    return np.concatenate([in_their_order(query, config), in_their_order(key, config), value])


def _split_mlp(tensor: np.ndarray, config: TransformerConfig) -> Sequence[np.ndarray]:
    """``[2*F, *]``: gate rows, then up rows."""
    inner = config.intermediate_size
    if len(tensor) != 2 * inner:
        raise ValueError(f"{len(tensor)} rows, expected {2 * inner}")
    return tensor[:inner], tensor[inner:]


def _join_mlp(parts: Sequence[np.ndarray], config: TransformerConfig) -> np.ndarray:
    """The inverse of `_split_mlp`."""
    import numpy as np  # not above: reading a YAML file needs no arrays

    return np.concatenate(list(parts))


def fused_rules(attention: str, mlp: str) -> tuple[WeightRule, WeightRule]:
    """Rules of the two fused matrices, by their names."""
    return (
        WeightRule(attention, ATTENTION, _split_attention, _join_attention),
        WeightRule(mlp, MLP, _split_mlp, _join_mlp),
    )
