"""Which layers a rank holds: all of them, or those of one pipeline stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mindcoder.families.parameter_names import split_layer


@dataclass(frozen=True)
class Stage:
    """Consecutive layers; the first stage also has the embeddings, the last one the final norm and the head.

    Attributes:
        layers: indices of its layers in the whole network.
        is_first, is_last: whether it is at an end of the pipeline.
    """

    layers: range
    is_first: bool = True
    is_last: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether this is the only stage."""
        return self.is_first and self.is_last

    def holds(self, name: str, tied_head: bool) -> bool:
        """Whether the parameter with this global name is on this stage; a tied embedding table is on both ends."""
        layer = split_layer(name)[0]
        if layer is not None:
            return layer in self.layers
        if name == "token_embedding.weight":
            return self.is_first or (self.is_last and tied_head)
        return self.is_first if name.startswith("position_embedding.") else self.is_last


def stage_of(counts: Sequence[int], index: int) -> Stage:
    """Stage ``index`` of a network whose stages have ``counts`` layers each."""
    first = sum(counts[:index])
    return Stage(range(first, first + counts[index]), index == 0, index == len(counts) - 1)
