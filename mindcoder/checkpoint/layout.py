"""Whole tensors from the parts that processes hold, and back: what makes a checkpoint independent of the layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mindcoder.models.slices import WholeLayers
from mindcoder.models.transformer_config import TransformerConfig

STATE_PREFIXES = ("adam_m.", "adam_v.", "master.")


def axis_of(name: str, slices: WholeLayers, config: TransformerConfig) -> int | None:
    """The axis along which a parameter, or an optimizer state of one, is cut."""
    for prefix in STATE_PREFIXES:
        name = name.removeprefix(prefix)
    return slices.axis(name, config)


def cut_all(values: Mapping[str, np.ndarray], slices: WholeLayers, config: TransformerConfig) -> dict[str, np.ndarray]:
    """This process's parts of whole tensors."""
    return {name: slices.cut(value, axis_of(name, slices, config)) for name, value in values.items()}


def join_all(
    parts: Sequence[Mapping[str, np.ndarray]], slices: WholeLayers, config: TransformerConfig
) -> dict[str, np.ndarray]:
    """Whole tensors from the parts of all tensor-parallel processes, in their order."""
    joined = {}
    for name, first in parts[0].items():
        axis = axis_of(name, slices, config)
        joined[name] = first if axis is None else np.concatenate([part[name] for part in parts], axis)
    return joined
