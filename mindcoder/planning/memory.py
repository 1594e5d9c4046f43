"""Memory per rank: exact for weights, gradients and optimizer states, estimated for activations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mindcoder.models.transformer_config import TransformerConfig
from mindcoder.parallel.optimizer_shard import owners
from mindcoder.planning.layout import ITEM_BYTES, Layout, Shapes, Workload, item_bytes, num_items, recomputes

LOGITS_CHUNK_BYTES = 128 * 2**20  # of the fused head and loss (`mindcoder.models.loss`)


@dataclass(frozen=True)
class StageMemory:
    """Bytes on the rank of a pipeline stage that needs most."""

    weights: float
    gradients: float
    optimizer: float
    activations: float

    @property
    def total(self) -> float:
        """The total."""
        return self.weights + self.gradients + self.optimizer + self.activations


def stage_memory(
    config: TransformerConfig, layout: Layout, work: Workload, stage: int, held: Shapes, adapter: Shapes | None
) -> StageMemory:
    """Memory of a stage.

    Args:
        held: shapes of the network's parameters on a rank of the stage, by name.
        adapter: shapes of the parameters trained instead (in float32); None trains ``held``.

    Raises:
        ValueError: ZeRO-1 has fewer parameters than ranks to shard over.
    """
    items = {name: item_bytes(name, config) for name in held}
    weights = sum(math.prod(shape) * items[name] for name, shape in held.items())
    trained = held
    if adapter is not None:
        trained, items = adapter, dict.fromkeys(adapter, ITEM_BYTES["float32"])
        weights += num_items(adapter) * ITEM_BYTES["float32"]
    return StageMemory(
        float(weights),
        gradient_bytes(trained, items, layout, work),
        optimizer_bytes(trained, items, layout),
        activation_bytes(config, layout, work, layout.layer_counts(config.num_layers)[stage], stage),
    )


def gradient_bytes(trained: Shapes, items: Mapping[str, int], layout: Layout, work: Workload) -> float:
    """The larger of two moments: a micro batch's gradients beside the float32 accumulation buffers, and the all-reduced
    gradients, a separate float32 set, beside those buffers (`mindcoder.train.update`).
    """
    buffers = 4 if work.micro_batches > 1 or layout.pipeline > 1 else 0
    summed = 4 if layout.data > 1 else 0
    return float(sum(math.prod(shape) * (buffers + max(items[name], summed)) for name, shape in trained.items()))


def optimizer_bytes(trained: Shapes, items: Mapping[str, int], layout: Layout) -> float:
    """Two float32 moments, and a float32 master copy of a 16-bit weight.

    ZeRO-1 assigns each whole tensor to one rank (`mindcoder.parallel.optimizer_shard`); this is the largest share.
    """
    sizes = [math.prod(shape) * (8 if items[name] == 4 else 12) for name, shape in trained.items()]
    if not layout.shard_optimizer or layout.data == 1:
        return float(sum(sizes))
    load = [0] * layout.data
    for size, owner in zip(sizes, owners(list(trained.values()), layout.data)):
        load[owner] += size
    return float(max(load))


def activation_bytes(config: TransformerConfig, layout: Layout, work: Workload, layers: int, stage: int) -> float:
    """Activations that a stage keeps between forward and backward.

    A layer keeps 4 H (two norm inputs, two norm outputs; a rank's part with sequence parallelism) and, divided by the
    tensor-parallel size, 2 N D (query, attention output), 2 K D (key, value) and F (twice if gated) numbers per token;
    with recomputation only its input, and one layer in full. All pipeline stages but the last recompute, and 1F1B holds
    ``pipeline - stage`` micro batches there. In addition: one layer's attention scores and their gradient, two chunks
    of logits on the last stage.
    """
    item = ITEM_BYTES[config.compute_dtype]
    inner = config.intermediate_size * (2 if config.gated_mlp else 1)
    sliced = 2 * config.query_size + 2 * config.kv_size + inner
    hidden = config.hidden_size / (layout.tensor if layout.sequence else 1)
    layer = work.tokens * item * (4 * hidden + sliced / layout.tensor)
    entered = work.tokens * item * hidden
    in_flight = min(layout.pipeline - stage, work.micro_batches)
    kept = in_flight * layers * entered + layer if recomputes(layout, work, stage) else layers * layer
    scores = 2 * work.batch * config.num_heads / layout.tensor * work.length**2 * ITEM_BYTES[config.softmax_dtype]
    head = 0.0
    if stage == layout.pipeline - 1:
        vocabulary = config.vocab_size / (layout.tensor if layout.vocabulary else 1)
        head = 2 * min(LOGITS_CHUNK_BYTES, 4.0 * work.tokens * vocabulary)
        if work.adapter is None:
            head += 4.0 * vocabulary * config.hidden_size  # the gradient of the head is accumulated in float32
    return kept + scores + head
