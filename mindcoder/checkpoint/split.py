"""Splits whole parameters over the ranks of a layout, as the processes of a run would hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mindcoder.checkpoint.plan import Build, TensorPlan
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.models.stage import stage_of
from mindcoder.models.tensor_parallel import shard_axis, shard_range
from mindcoder.parallel_layout import ParallelLayout, check_divides


@dataclass(frozen=True)
class ShardPlan:
    """Plan of one rank's shard of a tensor, and its offset in the whole; ``axis`` None for the whole tensor."""

    plan: TensorPlan
    shape: tuple[int, ...]
    axis: int | None
    begin: int = 0


def check_division(layout: ParallelLayout, config: TransformerConfig) -> None:
    """Check that a layout can divide the network.

    Raises:
        ValueError: heads, intermediate size or layers are not divisible.
    """
    layout.layer_counts(config.num_layers)
    check_divides(config.num_heads, config.num_kv_heads, config.intermediate_size, layout.tensor)


def rank_shards(
    parameters: Mapping[str, TensorPlan], config: TransformerConfig, layout: ParallelLayout, rank: int, copies: bool
) -> dict[str, ShardPlan]:
    """The shards that rank ``rank`` holds, by global name.

    Args:
        layout: without data parallelism; tensor-parallel ranks are consecutive, as in `mindcoder.parallel.mesh`.
        copies: include replicas (norms of other ranks, a tied head on the last stage); otherwise every value belongs to
            exactly one rank.
    """
    stage = stage_of(layout.layer_counts(config.num_layers), rank // layout.tensor)
    index = rank % layout.tensor
    shards = {}
    for name, plan in parameters.items():
        if not stage.holds(name, config.tied_head and copies):
            continue
        axis = shard_axis(name, config, layout.tensor)
        if axis is None:
            if copies or index == 0:
                shards[name] = ShardPlan(plan, plan.shape, None)
            continue
        begin, end = shard_range(plan.shape[axis], index, layout.tensor)
        shape = tuple(end - begin if number == axis else size for number, size in enumerate(plan.shape))
        cut = TensorPlan(name, shape, plan.dtype, plan.sources, _then_cut(plan, axis, begin, end))
        shards[name] = ShardPlan(cut, plan.shape, axis, begin)
    return shards


def _then_cut(plan: TensorPlan, axis: int, begin: int, end: int) -> Build:
    def build(sources: Sequence[np.ndarray]) -> np.ndarray:
        whole = sources[0] if plan.build is None else plan.build(sources)
        return whole[begin:end] if axis == 0 else whole[:, begin:end]

    return build
