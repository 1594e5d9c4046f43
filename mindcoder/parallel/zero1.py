"""ZeRO-1 (Rajbhandari et al. 2020): every optimizer state lives on one rank of the data axis."""

from __future__ import annotations

import math
from collections.abc import Sequence


def owners(shapes: Sequence[tuple[int, ...]], ranks: int) -> tuple[int, ...]:
    """Which of ``ranks`` keeps the state of each parameter: the largest first, always to the one with least so far.

    Raises:
        ValueError: fewer parameters than ranks.
    """
    if len(shapes) < ranks:
        raise ValueError(f"{len(shapes)} parameters cannot be divided over {ranks} ranks")
    load = [0] * ranks
    owner = [0] * len(shapes)
    for index in sorted(range(len(shapes)), key=lambda item: (-math.prod(shapes[item]), item)):
        owner[index] = load.index(min(load))
        load[owner[index]] += math.prod(shapes[index])
    return tuple(owner)
