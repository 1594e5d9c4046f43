"""Memory per rank: exact for weights, gradients and optimizer states; activations are those of the peak."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mindcoder.families.parameter_names import split_layer
from mindcoder.families.transformer_config import TOKEN_TABLES, TransformerConfig
from mindcoder.parallel.zero1 import owners
from mindcoder.parallel_layout import ParallelLayout
from mindcoder.planning.activations import (
    dropout_constants,
    head_bytes,
    kept_bytes,
    layer_bytes,
    mask_bytes,
    rows_bytes,
)
from mindcoder.planning.layout import ITEM_BYTES, Shapes, Workload, item_bytes

FLOAT32 = ITEM_BYTES["float32"]
BYTES_PER_PARAMETER = 4 * FLOAT32  # weight, gradient and Adam's two moments, all in float32
# Of one parameter at a time, in numbers of float32: the scaled gradient, and three outputs of its size that MindSpore
# allocates for AdamW although aclnnApplyAdamWV2 updates in place.
UPDATE_COPIES = 4
ACCUMULATE_COPIES = 2  # the gradient in float32, and times its micro batch's share


@dataclass(frozen=True)
class StageMemory:
    """Bytes on the rank of a pipeline stage that needs most.

    Attributes:
        weights: parameters, an adapter's included.
        gradients: accumulation buffers, and the largest set of gradients that exists at one time.
        optimizer: moments and masters.
        activations: what the peak of a step needs in addition: activations and temporary tensors.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float

    @property
    def total(self) -> float:
        """The total."""
        return self.weights + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True)
class Trained:
    """What a rank of a stage trains: numbers and bytes a number, by name."""

    sizes: Mapping[str, int]
    items: Mapping[str, int]

    @property
    def count(self) -> int:
        """Numbers in all of them."""
        return sum(self.sizes.values())

    @property
    def largest(self) -> int:
        """Numbers in the largest of them."""
        return max(self.sizes.values(), default=0)

    def bytes(self, *names: str) -> float:
        """Of gradients as the backward pass makes them; of all without names."""
        return float(sum(self.sizes[name] * self.items[name] for name in names or self.sizes if name in self.sizes))

    def layer_bytes(self) -> float:
        """Gradients of the largest layer."""
        layers: dict[int, float] = {}
        for name in self.sizes:
            layer = split_layer(name)[0]
            if layer is not None:
                layers[layer] = layers.get(layer, 0.0) + self.bytes(name)
        return max(layers.values(), default=0.0)


def stage_memory(
    config: TransformerConfig, layout: ParallelLayout, work: Workload, stage: int, held: Shapes, adapter: Shapes | None
) -> StageMemory:
    """Memory of a stage.

    Args:
        held: shapes of the network's parameters on a rank of the stage, by name.
        adapter: shapes of the parameters trained instead (in float32); None trains ``held``.

    Raises:
        ValueError: ZeRO-1 has fewer parameters than ranks to shard over.
    """
    weights = float(sum(math.prod(shape) * item_bytes(name, config) for name, shape in held.items()))
    shapes, items = held, {name: item_bytes(name, config) for name in held}
    if adapter is not None:
        shapes, items = adapter, dict.fromkeys(adapter, FLOAT32)
        weights += sum(math.prod(shape) for shape in adapter.values()) * FLOAT32
    trained = Trained({name: math.prod(shape) for name, shape in shapes.items()}, items)
    buffers = buffer_bytes(trained, layout, work)
    gradients = gradient_bytes(trained, layout, work)
    passes = buffers + pass_bytes(config, layout, work, stage, trained)
    constants = dropout_constants(config, layout, work, stage)
    fullest = 0.0
    optimizer = 0.0
    for sizes in shares(trained, list(shapes.values()), layout):
        states = sum(size * (2 * FLOAT32 + (FLOAT32 if items[name] != FLOAT32 else 0)) for name, size in sizes.items())
        most = constants + max(passes, gradients, buffers + update_bytes(trained, sizes, layout, work))
        if states + most > fullest:
            fullest, optimizer = states + most, float(states)
    return StageMemory(weights, gradients, optimizer, fullest - optimizer - gradients)


def shares(trained: Trained, shapes: list[tuple[int, ...]], layout: ParallelLayout) -> list[Mapping[str, int]]:
    """What each rank of the data axis updates: all of it, or with ZeRO-1 whole tensors of its own
    (`mindcoder.parallel.zero1`)."""
    if not layout.shard_optimizer or layout.data == 1:
        return [trained.sizes]
    owner = owners(shapes, layout.data)
    return [
        {name: size for (name, size), own in zip(trained.sizes.items(), owner) if own == rank}
        for rank in range(layout.data)
    ]


def has_buffers(layout: ParallelLayout, work: Workload) -> bool:
    """Whether gradients of micro batches are added up in float32 buffers (`mindcoder.train.update`)."""
    return work.micro_batches > 1 or layout.pipeline > 1


def buffer_bytes(trained: Trained, layout: ParallelLayout, work: Workload) -> float:
    """Of the buffers."""
    return float(FLOAT32 * trained.count) if has_buffers(layout, work) else 0.0


def gradient_bytes(trained: Trained, layout: ParallelLayout, work: Workload) -> float:
    """Buffers, and the set of gradients that is whole at one time.

    Without buffers that is the backward pass's, all of which the norm needs. With buffers a gradient is freed as soon
    as it is added; but the sums over the data axis are a set of their own.
    """
    if not has_buffers(layout, work):
        return trained.bytes()
    return FLOAT32 * trained.count * (2.0 if layout.copies > 1 else 1.0)


def update_bytes(trained: Trained, owned: Mapping[str, int], layout: ParallelLayout, work: Workload) -> float:
    """Beyond the buffers, from the summed gradients to new weights, one parameter after the other."""
    largest = max(owned.values(), default=0)
    working = float(UPDATE_COPIES * FLOAT32 * largest)
    if has_buffers(layout, work):
        return working + (FLOAT32 * trained.count if layout.copies > 1 else 0)
    # The norm is taken of float32 copies. The largest parameter's own gradient is freed once it is scaled.
    norm = trained.bytes() + FLOAT32 * trained.largest
    others = trained.bytes(*owned) if owned else 0.0
    freed = max((size * trained.items[name] for name, size in owned.items() if size == largest), default=0)
    return max(norm, others - freed + working)


def pass_bytes(
    config: TransformerConfig, layout: ParallelLayout, work: Workload, stage: int, trained: Trained
) -> float:
    """Beyond the buffers, the fullest moment of the forward and backward passes.

    At the head everything is kept and only the head has gradients. In the backward pass the layers' activations go as
    their gradients come, so that one end of it is the fullest. Then the looked-up rows' gradients are added to that of
    the token table, in a second tensor of its size.
    """
    layers = layout.layer_counts(config.num_layers)[stage]
    kept = kept_bytes(config, layout, work, layers, stage)
    always = mask_bytes(config, layout, work) + rows_bytes(config, layout, work)
    is_last = stage == layout.pipeline - 1
    head = head_bytes(config, layout, work) if is_last else 0.0
    table, ends = TOKEN_TABLES[0], trained.bytes(*TOKEN_TABLES) if is_last else 0.0
    working = layer_bytes(config, layout, work, stage) + trained.layer_bytes()
    moments = [kept + head, kept + ends + working]
    looked_up = trained.bytes(table) if stage == 0 else 0.0
    if has_buffers(layout, work):
        # Summed from the last layer to the first: what is added up is freed, the tied table comes last.
        tied = trained.bytes(table) if is_last and config.tied_head else 0.0
        largest = ACCUMULATE_COPIES * FLOAT32 * trained.largest
        moments += [kept / max(layers, 1) + tied + working, max(largest, 2 * looked_up)]
    else:
        whole = trained.bytes()
        moments += [kept / max(layers, 1) + whole - looked_up + working, whole + looked_up]
    return always + max(moments)
