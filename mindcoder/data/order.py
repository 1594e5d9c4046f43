"""Which rows an epoch takes, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EpochOrder:
    """Rows of one or several sources, determined by (seed, epoch).

    Attributes:
        sizes: rows of each source; they are numbered consecutively.
        rows_per_epoch: of each source. A source is an endless sequence of permutations, of which every epoch takes the
            next part: with fewer than all rows the epochs differ, with more rows repeat.
        shuffle: False keeps the order of the sources.
        seed: of the permutations.
    """

    sizes: tuple[int, ...]
    rows_per_epoch: tuple[int, ...]
    shuffle: bool
    seed: int

    @property
    def rows(self) -> int:
        """Number of rows in an epoch."""
        return sum(self.rows_per_epoch)

    def rows_of_epoch(self, epoch: int) -> np.ndarray:
        """Indices of the epoch's rows."""
        firsts = np.cumsum((0, *self.sizes))
        if not self.shuffle:
            return np.concatenate(
                [first + np.arange(count) % size for first, size, count in zip(firsts, self.sizes, self.rows_per_epoch)]
            )
        if self.sizes == self.rows_per_epoch and len(self.sizes) == 1:
            return np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        chosen = []
        for source, (first, size, count) in enumerate(zip(firsts, self.sizes, self.rows_per_epoch)):
            begin, end = epoch * count, (epoch + 1) * count
            rounds = range(begin // size, -(-end // size))
            if rounds:
                endless = [np.random.default_rng([self.seed, source, number]).permutation(size) for number in rounds]
                skipped = begin - rounds.start * size
                chosen.append(first + np.concatenate(endless)[skipped : skipped + count])
        rows = np.concatenate(chosen)
        return rows[np.random.default_rng([self.seed, epoch]).permutation(len(rows))]


def epoch_order(sizes: Sequence[int], weights: Sequence[float] | None, shuffle: bool, seed: int) -> EpochOrder:
    """Build an order from weights: how often an epoch takes the rows of each source; by default once.

    Args:
        weights: 0.5 takes half of the rows, different ones each epoch, 2 takes all of them twice.
    """
    if weights is None:
        return EpochOrder((sum(sizes),), (sum(sizes),), shuffle, seed)
    counts = tuple(round(size * weight) for size, weight in zip(sizes, weights, strict=True))
    return EpochOrder(tuple(sizes), counts, shuffle, seed)
