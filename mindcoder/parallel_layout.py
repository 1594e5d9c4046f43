"""How a network is divided over ranks. Every room may import this; nothing here needs MindSpore."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ParallelLayout:
    """Sizes of all kinds of parallelism, and what else they shard.

    Attributes:
        data: replicas of the network, each with its share of every global batch.
        tensor: ranks that share every layer.
        pipeline: stages of consecutive layers.
        shard_optimizer: shard optimizer states over the data-parallel ranks (ZeRO-1).
        sequence: shard hidden states by tokens between the tensor-parallel regions (sequence parallelism).
        vocabulary: shard token embedding and head over the tensor-parallel ranks.
        offsets: MindFormers' ``offset``, see `spread_layers`.
        context: ranks that share every sequence, each with its part of the tokens (context parallelism).

    Raises:
        ValueError: a size is below 1.
    """

    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    shard_optimizer: bool = False
    sequence: bool = False
    vocabulary: bool = False
    offsets: tuple[int, ...] | None = None
    context: int = 1

    def __post_init__(self) -> None:
        if min(self.data, self.tensor, self.pipeline, self.context) < 1:
            raise ValueError(f"{self.sizes}: every size must be at least 1")

    @property
    def devices(self) -> int:
        """Number of ranks."""
        return self.data * self.devices_per_replica

    @property
    def devices_per_replica(self) -> int:
        """Number of ranks that work on the same rows."""
        return self.context * self.tensor * self.pipeline

    @property
    def copies(self) -> int:
        """Number of ranks with the same parameters and other tokens, whose gradients are summed."""
        return self.data * self.context

    @property
    def sizes(self) -> str:
        """All sizes, for messages."""
        context = f" x context {self.context}" if self.context != 1 else ""
        return f"data {self.data} x tensor {self.tensor} x pipeline {self.pipeline}{context}"

    def layer_counts(self, layers: int) -> list[int]:
        """Number of layers per pipeline stage.

        Raises:
            ValueError: see `spread_layers`.
        """
        return spread_layers(layers, self.pipeline, self.offsets)

    def __str__(self) -> str:
        divided = {
            "optimizer": self.shard_optimizer and self.data > 1,
            "sequence": self.sequence and self.tensor > 1,
            "vocabulary": self.vocabulary and self.tensor > 1,
        }
        names = [name for name, is_divided in divided.items() if is_divided]
        return self.sizes + (f", {', '.join(names)} divided" if names else "")


def spread_layers(layers: int, stages: int, offsets: int | Sequence[int] | None = None) -> list[int]:
    """Number of layers per stage: as even as possible, earlier stages first, or as explicit offsets say.

    Args:
        offsets: MindFormers' ``offset``, added to each stage's even share ``layers // stages``.

    Raises:
        ValueError: the list has the wrong length or sum, or leaves a stage without layers.
    """
    if isinstance(offsets, Sequence):
        if len(offsets) != stages:
            raise ValueError(f"{len(offsets)} numbers for {stages} pipeline stages")
        counts = [layers // stages + offset for offset in offsets]
        if sum(counts) != layers:
            raise ValueError(f"{list(offsets)} makes {'+'.join(map(str, counts))} layers of {layers}")
    else:
        counts = [layers // stages + (stage < layers % stages) for stage in range(stages)]
    if min(counts) < 1:
        raise ValueError(f"{layers} layers leave one of {stages} pipeline stages empty")
    return counts


def check_divides(num_heads: int, num_kv_heads: int, intermediate_size: int, shards: int) -> None:
    """Refuse a network that tensor parallelism of size ``shards`` cannot divide; a single key head is replicated.

    Raises:
        ValueError: heads, key heads or the MLP's intermediate size are not divisible.
    """
    sizes = {"num_heads": num_heads, "n_kv_heads": num_kv_heads, "intermediate_size": intermediate_size}
    for name, size in sizes.items():
        if size % shards and not (name == "n_kv_heads" and size == 1):
            raise ValueError(f"{name} {size} is not divisible by {shards}")
