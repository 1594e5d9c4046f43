"""Estimates the cost of a layout per rank: memory, communication, time. Nothing is started.

Counts are exact for parameters, gradients and optimizer states as `mindcoder.train` holds them; activations and time
are estimates from the formulas in `mindcoder.planning.memory` and `mindcoder.planning.step_time`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.parallel_layout import ParallelLayout
from mindcoder.planning.layout import Machine, Workload, divides_by, num_communicators, num_items, stage_shapes
from mindcoder.planning.memory import StageMemory, stage_memory
from mindcoder.planning.step_time import stage_traffic, step_seconds


@dataclass(frozen=True)
class RankPlan:
    """Memory of the rank of a pipeline stage that needs most, and the bytes each of its ranks sends per step."""

    stage: int
    layers: int
    parameters: int
    memory: StageMemory
    sent: float


@dataclass(frozen=True)
class Plan:
    """A layout with its stages, communicator buffers per rank in bytes, and time per step."""

    layout: ParallelLayout
    stages: tuple[RankPlan, ...]
    buffers: float
    seconds: float
    tokens: int

    @property
    def peak(self) -> float:
        """Bytes on the rank that needs most."""
        return max(stage.memory.total for stage in self.stages) + self.buffers

    @property
    def tokens_per_second(self) -> float:
        """Training throughput per device."""
        return self.tokens / self.seconds / self.layout.devices

    def fits(self, machine: Machine) -> bool:
        """Whether tensors fit ``max_device_memory`` and, with the communicators' buffers, the device."""
        return self.peak <= machine.memory and (not machine.pool or self.peak - self.buffers <= machine.pool)


def make_plan(config: TransformerConfig, layout: ParallelLayout, work: Workload, machine: Machine) -> Plan:
    """Memory of every stage and the time of a step.

    Raises:
        ValueError: ZeRO-1 has fewer parameters than ranks to shard over.
    """
    work = replace(work, context=layout.context)
    held = stage_shapes(config, layout)
    adapters = stage_shapes(config, layout, work.adapter) if work.adapter is not None else None
    trained = [num_items(shapes) for shapes in adapters or held]
    traffic = [stage_traffic(config, layout, work, stage, trained[stage]) for stage in range(layout.pipeline)]
    stages = tuple(
        RankPlan(
            stage,
            layers,
            num_items(held[stage]),
            stage_memory(config, layout, work, stage, held[stage], adapters[stage] if adapters is not None else None),
            traffic[stage].total,
        )
        for stage, layers in enumerate(layout.layer_counts(config.num_layers))
    )
    buffers = num_communicators(layout, config.tied_head) * machine.communicator_buffer
    tokens = work.tokens * work.micro_batches * layout.copies
    return Plan(layout, stages, buffers, step_seconds(config, layout, work, machine, traffic), tokens)


def fitting_layouts(
    config: TransformerConfig,
    devices: int,
    global_batch: int,
    work: Workload,
    machine: Machine,
    contexts: Collection[int] = (1,),
) -> list[Plan]:
    """Plans of all layouts of ``devices`` that divide the model and fit, fastest first.

    ``global_batch`` sequences per step are constant: more data parallelism means fewer micro batches.

    Args:
        contexts: sizes of the context axis to try.
    """
    plans = []
    for data, context, tensor, pipeline in _sizes(devices, contexts):
        if pipeline > config.num_layers or not divides_by(config, tensor):
            continue
        if global_batch % (data * work.batch):
            continue
        micro = replace(work, micro_batches=global_batch // (data * work.batch))
        for divides in (False, True) if tensor > 1 else (False,):
            layout = ParallelLayout(data, tensor, pipeline, data > 1, divides, divides, context=context)
            try:
                plan = make_plan(config, layout, micro, machine)
            except ValueError:
                continue  # more data-parallel ranks than tensors to assign
            if plan.fits(machine):
                plans.append(plan)
    return sorted(plans, key=lambda plan: (plan.seconds, plan.peak))


def _sizes(devices: int, contexts: Collection[int]) -> Iterator[tuple[int, int, int, int]]:
    """Sizes of data, context, tensor and pipeline that make ``devices``."""
    for context in sorted(contexts):
        for tensor in range(1, devices // context + 1):
            for pipeline in range(1, devices // (context * tensor) + 1):
                if devices % (context * tensor * pipeline) == 0:
                    yield devices // (context * tensor * pipeline), context, tensor, pipeline
