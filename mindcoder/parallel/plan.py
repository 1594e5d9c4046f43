"""What a layout costs each rank, on paper: memory, messages, time. Nothing is started.

Counts are exact for parameters, gradients and optimizer states as `mindcoder.train` holds them; activations and time
are estimates from the formulas in the docstrings below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mindcoder.config.layout import check_divides, spread_layers
from mindcoder.models.slices import cut_axis
from mindcoder.models.stage import stage_of
from mindcoder.models.transformer_config import TransformerConfig

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
LOGITS_CHUNK_BYTES = 128 * 2**20  # of the fused head and loss (`mindcoder.models.loss`)


@dataclass(frozen=True)
class Layout:
    """Sizes of the mesh's axes, and what else is divided.

    Attributes:
        shard_optimizer: optimizer states over the data axis (ZeRO-1).
        sequence: rows between the sliced blocks over the tensor axis (``use_seq_parallel``).
        vocabulary: token tables over the tensor axis (``vocab_emb_dp: False``).
        offsets: MindFormers' ``offset``, see `mindcoder.config.layout.spread_layers`.
    """

    data: int
    tensor: int
    pipeline: int
    shard_optimizer: bool
    sequence: bool = False
    vocabulary: bool = False
    offsets: tuple[int, ...] | None = None

    @property
    def devices(self) -> int:
        """Ranks."""
        return self.data * self.tensor * self.pipeline

    def __str__(self) -> str:
        divided = {
            "optimizer": self.shard_optimizer and self.data > 1,
            "rows": self.sequence and self.tensor > 1,
            "vocabulary": self.vocabulary and self.tensor > 1,
        }
        names = [name for name, is_divided in divided.items() if is_divided]
        also = f", {', '.join(names)} divided" if names else ""
        return f"data {self.data} x tensor {self.tensor} x pipeline {self.pipeline}{also}"


@dataclass(frozen=True)
class Workload:
    """One step: ``batch`` sequences of ``length`` tokens a micro batch and rank, ``micro_batches`` of them.

    ``adapter`` holds the global shapes of what is trained in place of the weights (LoRA).
    """

    batch: int
    length: int
    micro_batches: int
    recompute: bool
    adapter: Mapping[str, tuple[int, ...]] | None = None

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


def stage_parameters(
    config: TransformerConfig, layout: Layout, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> list[tuple[int, int]]:
    """(layers, parameters of a rank) of every stage, as `mindcoder.models.decoder` holds them.

    A tied head stands a second time on the last stage. ``shapes`` counts others than the network's own.
    """
    counts = spread_layers(config.num_layers, layout.pipeline, layout.offsets)
    shapes = config.parameter_shapes() if shapes is None else shapes
    stages = []
    for index, layers in enumerate(counts):
        stage = stage_of(counts, index)
        held = 0
        for name, shape in shapes.items():
            if stage.holds(name, config.tied_head):
                axis = cut_axis(name, config, layout.tensor, layout.vocabulary)
                pieces = [-(-size // layout.tensor) if place == axis else size for place, size in enumerate(shape)]
                held += math.prod(pieces)
        stages.append((layers, held))
    return stages


def activation_bytes(config: TransformerConfig, layout: Layout, work: Workload, layers: int, stage: int) -> float:
    """What a stage keeps between forward and backward.

    A layer keeps 4 H (two norm inputs, two norm outputs; a slice's share with divided rows) and, divided by the
    tensor size, 2 N D (query, attended values), 2 K D (key, value) and F (twice with a gate) numbers a token; with
    recomputation its input only, and one layer in full. All pipeline stages but the last recompute, and 1F1B holds
    ``pipeline - stage`` micro batches there. On top: one layer's attention scores and their gradient, two chunks of
    logits on the last stage.
    """
    item = ITEM_BYTES[config.compute_dtype]
    inner = config.intermediate_size * (2 if config.gated_mlp else 1)
    sliced = 2 * config.query_size + 2 * config.kv_size + inner
    row = config.hidden_size / (layout.tensor if layout.sequence else 1)
    layer = work.tokens * item * (4 * row + sliced / layout.tensor)
    entered = work.tokens * item * row
    under_way = min(layout.pipeline - stage, work.micro_batches)
    kept = under_way * layers * entered + layer if recomputes(layout, work, stage) else layers * layer
    scores = 2 * work.batch * config.num_heads / layout.tensor * work.length**2 * ITEM_BYTES[config.softmax_dtype]
    head = 0.0
    if stage == layout.pipeline - 1:
        vocabulary = config.vocab_size / (layout.tensor if layout.vocabulary else 1)
        head = 2 * min(LOGITS_CHUNK_BYTES, 4.0 * work.tokens * vocabulary)
        if work.adapter is None:
            head += 4.0 * vocabulary * config.hidden_size  # the head's gradient is summed in float32
    return kept + scores + head


def recomputes(layout: Layout, work: Workload, stage: int) -> bool:
    """Whether a stage runs its layers a second time: when asked to, and in a pipeline on all stages but the last."""
    return work.recompute or stage < layout.pipeline - 1


def sent_bytes(config: TransformerConfig, layout: Layout, work: Workload, stage: int, parameters: int) -> float:
    """What a rank of a stage sends in a step, with ring algorithms (2 (n - 1) / n of the data for a sum).

    Tensor: two sums of ``[tokens, H]`` a layer and forward pass, and two backward; with a divided vocabulary one more
    at both ends. Divided rows send as much: half of a sum each where they are scattered and gathered. Data: the
    gradients once, and with divided optimizer states the weights once. Pipeline: a micro batch's rows on, the
    gradient of those that came back, and the gradient of a tied table between the ends.
    """
    item = ITEM_BYTES[config.compute_dtype]
    counts = spread_layers(config.num_layers, layout.pipeline, layout.offsets)
    is_first, is_last = stage == 0, stage == layout.pipeline - 1
    rows = work.tokens * config.hidden_size * item
    sums = counts[stage] * 2 * (3 if recomputes(layout, work, stage) else 2)
    if layout.vocabulary:
        sums += is_first + is_last
    tensor = 2 * (layout.tensor - 1) / layout.tensor * rows * sums * work.micro_batches
    data = 2 * (layout.data - 1) / layout.data * parameters * 4
    if layout.shard_optimizer:
        data += 2 * (layout.data - 1) / layout.data * parameters * ITEM_BYTES[config.param_dtype]
    own_rows = rows / (layout.tensor if layout.sequence else 1)
    pipeline = ((not is_last) + (not is_first)) * own_rows * work.micro_batches
    if config.tied_head and is_first != is_last and work.adapter is None:
        table = config.token_rows * config.hidden_size / (layout.tensor if layout.vocabulary else 1)
        pipeline += 4 * table
    return tensor + data + pipeline


def make_plan(config: TransformerConfig, layout: Layout, work: Workload, machine: Machine) -> Plan:
    """Memory of every stage and the time of a step: products at ``machine.flops`` (a third more where the forward pass
    runs again), messages at ``machine.bandwidth`` without overlap, and the pipeline's bubble (p - 1) / m. Frozen
    weights have no gradient, so an adapter's step has two thirds of the products."""
    item = ITEM_BYTES[config.param_dtype]
    accumulates = work.micro_batches > 1 or layout.pipeline > 1
    divided = layout.data if layout.shard_optimizer else 1
    stages = []
    adapters = None if work.adapter is None else stage_parameters(config, layout, work.adapter)
    for stage, (layers, parameters) in enumerate(stage_parameters(config, layout)):
        trained = parameters
        if adapters is not None:
            trained, item = adapters[stage][1], 4
        stages.append(
            RankPlan(
                stage,
                layers,
                parameters,
                weights=float(parameters * ITEM_BYTES[config.param_dtype] + (4 * trained if adapters else 0)),
                gradients=float(trained * (item + (4 if accumulates else 0))),
                optimizer=trained * (8 + (4 if item < 4 else 0)) / divided,
                activations=activation_bytes(config, layout, work, layers, stage),
                sent=sent_bytes(config, layout, work, stage, trained),
            )
        )
    tokens = work.tokens * work.micro_batches
    work_flops = config.flops_per_token(work.length) * tokens * (4 / 3 if recomputes(layout, work, 0) else 1)
    work_flops *= 1 if work.adapter is None else 2 / 3
    compute = work_flops / (layout.tensor * layout.pipeline) / machine.flops
    bubble = (layout.pipeline - 1) / work.micro_batches
    seconds = compute * (1 + bubble) + max(stage.sent for stage in stages) / machine.bandwidth
    return Plan(layout, tuple(stages), seconds)


def divides_by(config: TransformerConfig, tensor: int) -> bool:
    """Whether ``tensor`` slices can share the network's layers."""
    try:
        check_divides(config.num_heads, config.num_kv_heads, config.intermediate_size, tensor)
    except ValueError:
        return False
    return True


def fitting_layouts(
    config: TransformerConfig, devices: int, global_batch: int, work: Workload, machine: Machine
) -> list[Plan]:
    """Plans of every layout of ``devices`` that divides the model and fits, the fastest a sequence first.

    ``global_batch`` sequences a step are kept: more data parallelism means fewer micro batches.
    """
    plans = []
    for tensor in range(1, devices + 1):
        for pipeline in range(1, devices // tensor + 1):
            if devices % (tensor * pipeline) or pipeline > config.num_layers or not divides_by(config, tensor):
                continue
            data = devices // (tensor * pipeline)
            if global_batch % (data * work.batch):
                continue
            micro = replace(work, micro_batches=global_batch // (data * work.batch))
            for divides in (False, True) if tensor > 1 else (False,):
                layout = Layout(data, tensor, pipeline, data > 1, divides, divides)
                plan = make_plan(config, layout, micro, machine)
                if plan.peak <= machine.memory:
                    plans.append(plan)
    return sorted(plans, key=lambda plan: (plan.seconds, plan.peak))
