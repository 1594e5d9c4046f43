"""Which layers of the network a process has: all of them, or those of one pipeline stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """Consecutive layers; the first stage has the embeddings too, the last one the final norm and the head.

    Attributes:
        layers: numbers of its layers in the whole network.
        is_first, is_last: place in the pipeline.
    """

    layers: range
    is_first: bool = True
    is_last: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether there is no other stage."""
        return self.is_first and self.is_last

    def holds(self, name: str, tied_head: bool) -> bool:
        """Whether a parameter with this global name is here; the table of a tied head is on both ends."""
        if name.startswith("layers."):
            return int(name.split(".", 2)[1]) in self.layers
        if name == "token_embedding.weight":
            return self.is_first or (self.is_last and tied_head)
        return self.is_first if name.startswith("position_embedding.") else self.is_last


def spread_layers(layers: int, stages: int, offsets: int | Sequence[int] | None = None) -> list[int]:
    """Layers of each stage: as even as they go, earlier stages first, plus an explicit list of differences.

    Args:
        offsets: MindFormers' ``offset``, what to add to each stage's even share ``layers // stages``.

    Raises:
        ValueError: the list has another length or sum, or leaves a stage without layers.
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
        raise ValueError(f"{layers} layers leave a stage of {stages} without any")
    return counts


def stage_of(counts: Sequence[int], index: int) -> Stage:
    """Stage ``index`` of a network whose stages have ``counts`` layers."""
    first = sum(counts[:index])
    return Stage(range(first, first + counts[index]), index == 0, index == len(counts) - 1)
