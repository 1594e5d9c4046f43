"""Time per step: FLOPs at a rate, communication at a bandwidth, the pipeline bubble."""

from __future__ import annotations

from dataclasses import dataclass

from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.parallel_layout import ParallelLayout
from mindcoder.planning.layout import ITEM_BYTES, Machine, Workload, recomputes


@dataclass(frozen=True)
class Traffic:
    """Bytes that a rank of a stage sends per step, by kind of parallelism."""

    tensor: float
    data: float
    pipeline: float
    context: float = 0.0

    @property
    def total(self) -> float:
        """The total."""
        return self.tensor + self.data + self.pipeline + self.context


def stage_traffic(
    config: TransformerConfig, layout: ParallelLayout, work: Workload, stage: int, trained: int
) -> Traffic:
    """Bytes that a rank of a stage sends per step, with ring algorithms: 2 (n - 1) / n of the data for an all-reduce.

    Tensor: two all-reduces of ``[Q, H]`` per layer and forward pass, and two backward; with a parallel vocabulary
    one more at both ends. Sequence parallelism sends the same: half in the reduce-scatter, half in the all-gather.
    Data: the gradients in float32, summed over the context axis as well, and with ZeRO-1 the weights. Context: the keys
    and values of every layer to all other ranks, and their gradients back. Pipeline: a micro batch's hidden states
    forward, their gradient backward, and the gradient of a tied embedding between the ends.

    Args:
        trained: number of trainable parameters on a rank.
    """
    item = ITEM_BYTES[config.compute_dtype]
    is_first, is_last = stage == 0, stage == layout.pipeline - 1
    hidden = work.tokens * config.hidden_size * item
    sums = layout.layer_counts(config.num_layers)[stage] * 2 * (3 if recomputes(layout, work, stage) else 2)
    if layout.vocabulary:
        sums += is_first + is_last
    tensor = 2 * (layout.tensor - 1) / layout.tensor * hidden * sums * work.micro_batches
    data = 2 * (layout.copies - 1) / layout.copies * trained * 4
    if layout.shard_optimizer:
        data += 2 * (layout.data - 1) / layout.data * trained * ITEM_BYTES[config.param_dtype]
    own = hidden / (layout.tensor if layout.sequence else 1)
    pipeline = ((not is_last) + (not is_first)) * own * work.micro_batches
    if config.tied_head and is_first != is_last and work.adapter is None:
        table = config.token_rows * config.hidden_size / (layout.tensor if layout.vocabulary else 1)
        pipeline += 4 * table
    keys = work.tokens * 2 * config.kv_size / layout.tensor * item * layout.layer_counts(config.num_layers)[stage]
    context = (layout.context - 1) * keys * (3 if recomputes(layout, work, stage) else 2) * work.micro_batches
    return Traffic(tensor, data, pipeline, context)


def stage_flops(config: TransformerConfig, layout: ParallelLayout, work: Workload, stage: int) -> float:
    """Floating point operations of a rank of a stage per micro batch.

    A forward pass is a third of `TransformerConfig.flops_per_token`, gradients of inputs another, gradients of weights
    the last, which frozen weights do not have. Recomputation repeats the forward pass of the layers, not of the head.
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
    config: TransformerConfig, layout: ParallelLayout, work: Workload, machine: Machine, traffic: list[Traffic]
) -> float:
    """Time of a step without overlap of communication and computation.

    With 1F1B every micro batch but one waits for the slowest stage, and one passes all stages in turn: (m - 1) times
    the longest stage plus the sum of all. For equal stages that is the well-known bubble (p - 1) / m. Gradients are
    all-reduced over the data-parallel ranks once, after the last micro batch.
    """
    on_tensor = machine.reach(layout.devices, layout.tensor)
    on_context = machine.reach(layout.devices, layout.tensor * layout.context)
    on_data = machine.reach(layout.devices, layout.tensor * layout.copies)
    on_pipeline = machine.reach(layout.devices, layout.devices)
    stages = [
        stage_flops(config, layout, work, stage) / machine.flops
        + (sent.tensor / on_tensor + sent.context / on_context + sent.pipeline / on_pipeline) / work.micro_batches
        for stage, sent in enumerate(traffic)
    ]
    summed = max(sent.data for sent in traffic) / on_data
    return (work.micro_batches - 1) * max(stages) + sum(stages) + summed
