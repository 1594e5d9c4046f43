"""Our parameters from the tensors of a file and back, by a weight table of the family: Hugging Face's, or GGUF's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mindcoder.checkpoint.plan import Build, FoundPlans, TensorPlan
from mindcoder.checkpoint.stored_tensor import StoredTensor
from mindcoder.families.registry import family_of
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.families.weight_table import WeightRule, WeightTable


def plans_to_ours(
    tensors: Mapping[str, StoredTensor], config: TransformerConfig, table: WeightTable | None = None
) -> FoundPlans:
    """Plans of our parameters, as far as their tensors are there.

    Args:
        table: names of the tensors; by default Hugging Face's.
    """
    table = table or family_of(config.model_type).weights
    rules = list(table.expand(config))
    # Files of the bare transformer lack the prefix.
    bare = not any(rule.huggingface in tensors for rule in rules)
    plans: dict[str, TensorPlan] = {}
    missing: list[str] = []
    known = set()
    for rule in rules:
        name = rule.huggingface.removeprefix(table.prefix) if bare else rule.huggingface
        known.add(name)
        if name in tensors:
            plans.update(split_plans(rule, tensors[name], config))
        else:
            missing.append(name)
    unexpected = [name for name in tensors if name not in known and not table.is_ignored(name)]
    return FoundPlans(plans, missing, unexpected)


def split_plans(rule: WeightRule, source: StoredTensor, config: TransformerConfig) -> dict[str, TensorPlan]:
    """One plan per parameter that a tensor holds; a tensor that cannot be split keeps its own shape."""
    if rule.split is None:
        name = rule.ours[0]
        return {name: TensorPlan(name, source.shape, source.dtype, (source,))}
    stand_in = np.broadcast_to(np.zeros((), np.uint8), source.shape)
    try:
        shapes = [part.shape for part in rule.split(stand_in, config)]
    except ValueError:
        shapes = [source.shape] * len(rule.ours)
    return {
        name: TensorPlan(name, shape, source.dtype, (source,), _take_part(rule, index, config))
        for index, (name, shape) in enumerate(zip(rule.ours, shapes))
    }


def _take_part(rule: WeightRule, index: int, config: TransformerConfig) -> Build:
    def build(parts: Sequence[np.ndarray]) -> np.ndarray:
        assert rule.split is not None
        return rule.split(parts[0], config)[index]

    return build


def plans_from_ours(
    parameters: Mapping[str, TensorPlan], config: TransformerConfig, table: WeightTable | None = None
) -> list[TensorPlan]:
    """Plans of a file's tensors from those of our parameters, in the order of the table.

    Args:
        table: names of the tensors; by default Hugging Face's.
    """
    plans = []
    for rule in (table or family_of(config.model_type).weights).expand(config):
        parts = [parameters[name] for name in rule.ours]
        if rule.join is None:
            (part,) = parts
            plans.append(TensorPlan(rule.huggingface, part.shape, part.dtype, part.sources, part.build))
            continue
        stand_ins = [np.broadcast_to(np.zeros((), np.uint8), part.shape) for part in parts]
        shape = rule.join(stand_ins, config).shape
        sources = tuple(source for part in parts for source in part.sources)
        plans.append(TensorPlan(rule.huggingface, shape, parts[0].dtype, sources, _join_parts(rule, parts, config)))
    return plans


def _join_parts(rule: WeightRule, plans: Sequence[TensorPlan], config: TransformerConfig) -> Build:
    """Build the parts from their sources, then join them."""

    def build(arrays: Sequence[np.ndarray]) -> np.ndarray:
        assert rule.join is not None
        parts, first = [], 0
        for plan in plans:
            own = arrays[first : first + len(plan.sources)]
            parts.append(own[0] if plan.build is None else plan.build(own))
            first += len(plan.sources)
        return rule.join(parts, config)

    return build
