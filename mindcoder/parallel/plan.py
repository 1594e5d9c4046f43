"""What a layout costs each rank, on paper: memory, messages, time. Nothing is started.

Counts are exact for parameters, gradients and optimizer states as `mindcoder.train` holds them; activations and time
are estimates from the formulas in the docstrings below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mindcoder.models.slices import cut_axis
from mindcoder.models.transformer_config import TransformerConfig

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
LOGITS_CHUNK_BYTES = 128 * 2**20  # of the fused head and loss (`mindcoder.models.loss`)


@dataclass(frozen=True)
class Layout:
    """Sizes of the mesh's axes, and whether optimizer states are divided (ZeRO-1)."""

    data: int
    tensor: int
    pipeline: int
    shard_optimizer: bool

    @property
    def devices(self) -> int:
        """Ranks."""
        return self.data * self.tensor * self.pipeline

    def __str__(self) -> str:
        zero = ", optimizer divided" if self.shard_optimizer and self.data > 1 else ""
        return f"data {self.data} x tensor {self.tensor} x pipeline {self.pipeline}{zero}"


@dataclass(frozen=True)
class Workload:
    """One step: ``batch`` sequences of ``length`` tokens a micro batch and rank, ``micro_batches`` of them."""

    batch: int
    length: int
    micro_batches: int
    recompute: bool

    @property
    def tokens(self) -> int:
        """Of a micro batch."""
        return self.batch * self.length


@dataclass(frozen=True)
class Machine:
    """What a device can do; FLOP/s are what a training step reaches, not the peak."""

    memory: float
    flops: float
    bandwidth: float


@dataclass(frozen=True)
class RankPlan:
    """Bytes of the ranks of one pipeline stage, and what they send in a step."""

    stage: int
    layers: int
    parameters: int
    weights: float
    gradients: float
    optimizer: float
    activations: float
    sent: float

    @property
    def total(self) -> float:
        """Memory."""
        return self.weights + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True)
class Plan:
    """A layout with its stages and the time of a step in seconds."""

    layout: Layout
    stages: tuple[RankPlan, ...]
    seconds: float

    @property
    def peak(self) -> float:
        """Bytes of the fullest rank."""
        return max(stage.total for stage in self.stages)


def stage_parameters(config: TransformerConfig, layout: Layout) -> list[tuple[int, int]]:
    """(layers, parameters of a rank) of every stage: layers spread evenly, slices cut, embeddings and head whole.

    The first stage has the embeddings, the last the final norm and the head (a tied head is there a second time).
    """
    shapes = config.parameter_shapes()
    per_layer = 0
    for name, shape in shapes.items():
        if name.startswith("layers.0."):
            cut = cut_axis(name, config, layout.tensor) is not None
            per_layer += math.prod(shape) // (layout.tensor if cut else 1)
    table = math.prod(shapes["token_embedding.weight"])
    first = table + math.prod(shapes.get("position_embedding.weight", (0,)))
    last = sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(("final_norm", "head")))
    if config.tied_head and layout.pipeline > 1:
        last += table
    stages = []
    for stage in range(layout.pipeline):
        layers = config.num_layers // layout.pipeline + (stage < config.num_layers % layout.pipeline)
        extra = (first if stage == 0 else 0) + (last if stage == layout.pipeline - 1 else 0)
        stages.append((layers, layers * per_layer + extra))
    return stages


def activation_bytes(config: TransformerConfig, layout: Layout, work: Workload, layers: int, stage: int) -> float:
    """What a stage keeps between forward and backward.

    A layer keeps 4 H (two norm inputs, two norm outputs) and, divided by the tensor size, 2 N D (query, attended
    values), 2 K D (key, value) and F (twice with a gate) numbers a token; with recomputation its input only, and one
    layer in full. 1F1B holds ``pipeline - stage`` micro batches. On top: one layer's attention scores and their
    gradient, two chunks of logits on the last stage.
    """
    item = ITEM_BYTES[config.compute_dtype]
    inner = config.intermediate_size * (2 if config.gated_mlp else 1)
    sliced = 2 * config.query_size + 2 * config.kv_size + inner
    layer = work.tokens * item * (4 * config.hidden_size + sliced / layout.tensor)
    kept = work.tokens * item * config.hidden_size if work.recompute else layer
    in_flight = min(layout.pipeline - stage, work.micro_batches)
    scores = 2 * work.batch * config.num_heads / layout.tensor * work.length**2 * ITEM_BYTES[config.softmax_dtype]
    head = 0.0
    if stage == layout.pipeline - 1:
        head = 2 * min(LOGITS_CHUNK_BYTES, 4.0 * work.tokens * config.vocab_size)
        head += 4.0 * config.vocab_size * config.hidden_size  # the head's gradient is summed in float32
    return in_flight * layers * kept + (layer if work.recompute else 0.0) + scores + head


def sent_bytes(config: TransformerConfig, layout: Layout, work: Workload, layers: int, parameters: int) -> float:
    """What a rank sends in a step, with ring algorithms (2 (n - 1) / n of the data for a sum).

    Tensor: two sums of ``[tokens, H]`` a layer forward and two backward, two more with recomputation. Data: the
    gradients once, and with divided optimizer states the weights once. Pipeline: one activation and one gradient
    a micro batch.
    """
    item = ITEM_BYTES[config.compute_dtype]
    rows = work.tokens * config.hidden_size * item
    tensor = 2 * (layout.tensor - 1) / layout.tensor * rows * layers * (6 if work.recompute else 4) * work.micro_batches
    data = 2 * (layout.data - 1) / layout.data * parameters * 4
    if layout.shard_optimizer:
        data += 2 * (layout.data - 1) / layout.data * parameters * ITEM_BYTES[config.param_dtype]
    pipeline = 2 * rows * work.micro_batches if layout.pipeline > 1 else 0
    return tensor + data + pipeline


def make_plan(config: TransformerConfig, layout: Layout, work: Workload, machine: Machine) -> Plan:
    """Memory of every stage and the time of a step: products at ``machine.flops`` (a third more with recomputation),
    messages at ``machine.bandwidth`` without overlap, and the pipeline's bubble (p - 1) / m."""
    item = ITEM_BYTES[config.param_dtype]
    accumulates = work.micro_batches > 1
    divided = layout.data if layout.shard_optimizer else 1
    stages = []
    for stage, (layers, parameters) in enumerate(stage_parameters(config, layout)):
        stages.append(
            RankPlan(
                stage,
                layers,
                parameters,
                weights=float(parameters * item),
                gradients=float(parameters * (item + (4 if accumulates else 0))),
                optimizer=parameters * (8 + (4 if item < 4 else 0)) / divided,
                activations=activation_bytes(config, layout, work, layers, stage),
                sent=sent_bytes(config, layout, work, layers, parameters),
            )
        )
    tokens = work.tokens * work.micro_batches
    work_flops = config.flops_per_token(work.length) * tokens * (4 / 3 if work.recompute else 1)
    compute = work_flops / (layout.tensor * layout.pipeline) / machine.flops
    bubble = (layout.pipeline - 1) / work.micro_batches
    seconds = compute * (1 + bubble) + max(stage.sent for stage in stages) / machine.bandwidth
    return Plan(layout, tuple(stages), seconds)


def fitting_layouts(
    config: TransformerConfig, devices: int, global_batch: int, work: Workload, machine: Machine
) -> list[Plan]:
    """Plans of every layout of ``devices`` that divides the model and fits, the fastest a sequence first.

    ``global_batch`` sequences a step are kept: more data parallelism means fewer micro batches.
    """
    plans = []
    for tensor in range(1, devices + 1):
        for pipeline in range(1, devices // tensor + 1):
            if devices % (tensor * pipeline) or config.num_heads % tensor or config.intermediate_size % tensor:
                continue
            if config.num_kv_heads > 1 and config.num_kv_heads % tensor or pipeline > config.num_layers:
                continue
            data = devices // (tensor * pipeline)
            if global_batch % (data * work.batch):
                continue
            micro = Workload(work.batch, work.length, global_batch // (data * work.batch), work.recompute)
            plan = make_plan(config, Layout(data, tensor, pipeline, data > 1), micro, machine)
            if plan.peak <= machine.memory:
                plans.append(plan)
    return sorted(plans, key=lambda plan: plan.seconds)
