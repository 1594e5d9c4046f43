"""Seconds of a step: products at a rate, messages at a bandwidth, the pipeline's fill."""

from __future__ import annotations

from dataclasses import dataclass

from mindcoder.models.transformer_config import TransformerConfig
from mindcoder.planning.layout import ITEM_BYTES, Layout, Machine, Workload, recomputes


@dataclass(frozen=True)
class Traffic:
    """Bytes that a rank of a stage sends in a step, by axis of the mesh."""

    tensor: float
    data: float
    pipeline: float

    @property
    def total(self) -> float:
        """Over all axes."""
        return self.tensor + self.data + self.pipeline


def stage_traffic(config: TransformerConfig, layout: Layout, work: Workload, stage: int, trained: int) -> Traffic:
    """What a rank of a stage sends in a step, with ring algorithms: 2 (n - 1) / n of the data for a sum.

    Tensor: two sums of ``[tokens, H]`` per layer and forward pass, and two backward; with a divided vocabulary one
    more at both ends. A divided sequence sends as much: half of a sum where it is scattered, half where it is gathered.
    Data: the gradients in float32, and with ZeRO-1 the weights. Pipeline: a micro batch's hidden states forward, their
    gradient backward, and the gradient of a tied table between the ends.

    Args:
        trained: numbers that a rank trains.
    """
    item = ITEM_BYTES[config.compute_dtype]
    is_first, is_last = stage == 0, stage == layout.pipeline - 1
    hidden = work.tokens * config.hidden_size * item
    sums = layout.layer_counts(config.num_layers)[stage] * 2 * (3 if recomputes(layout, work, stage) else 2)
    if layout.vocabulary:
        sums += is_first + is_last
    tensor = 2 * (layout.tensor - 1) / layout.tensor * hidden * sums * work.micro_batches
    data = 2 * (layout.data - 1) / layout.data * trained * 4
    if layout.shard_optimizer:
        data += 2 * (layout.data - 1) / layout.data * trained * ITEM_BYTES[config.param_dtype]
    own = hidden / (layout.tensor if layout.sequence else 1)
    pipeline = ((not is_last) + (not is_first)) * own * work.micro_batches
    if config.tied_head and is_first != is_last and work.adapter is None:
        table = config.token_rows * config.hidden_size / (layout.tensor if layout.vocabulary else 1)
        pipeline += 4 * table
    return Traffic(tensor, data, pipeline)


def stage_flops(config: TransformerConfig, layout: Layout, work: Workload, stage: int) -> float:
    """Floating point operations of a rank of a stage for one micro batch.

    A forward pass is a third of `TransformerConfig.flops_per_token`, gradients of inputs another, gradients of weights
    the last; frozen weights have none. Recomputation runs the layers' forward pass again, not the head's.
    """
    head = 6.0 * config.vocab_size * config.hidden_size
    layer = (config.flops_per_token(work.length) - head) / config.num_layers
    passes = 3 if work.adapter is None else 2
    layers = layout.layer_counts(config.num_layers)[stage] * layer
    per_token = layers / 3 * (passes + recomputes(layout, work, stage))
    if stage == layout.pipeline - 1:
        per_token += head / 3 * passes
    return per_token * work.tokens / layout.tensor


def step_seconds(
    config: TransformerConfig, layout: Layout, work: Workload, machine: Machine, traffic: list[Traffic]
) -> float:
    """Time of a step without overlap of messages and products.

    With 1F1B every micro batch but one waits for the slowest stage, and one passes all stages in turn: (m - 1) times
    the longest stage plus the sum of all. For equal stages that is the well-known bubble (p - 1) / m. Gradients are
    summed over the data axis once, when the last micro batch is done.
    """
    on_tensor = machine.reach(layout.devices, layout.tensor)
    on_data = machine.reach(layout.devices, layout.tensor * layout.data)
    on_pipeline = machine.reach(layout.devices, layout.devices)
    stages = [
        stage_flops(config, layout, work, stage) / machine.flops
        + (sent.tensor / on_tensor + sent.pipeline / on_pipeline) / work.micro_batches
        for stage, sent in enumerate(traffic)
    ]
    summed = max(sent.data for sent in traffic) / on_data
    return (work.micro_batches - 1) * max(stages) + sum(stages) + summed
