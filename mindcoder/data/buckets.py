"""Batches of rows of about the same length, cut to it: padding that nobody computes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class LengthBuckets:
    """Deals rows out to batches by their length.

    Args:
        lengths: that batches may have, ascending; the last one is the rows' own. Each is a graph to be compiled.
        row_lengths: tokens in every row of the dataset, without its padding.
        batch: rows of a batch.
        seed: of the batches' order; None keeps the short ones first.
    """

    def __init__(self, lengths: Sequence[int], row_lengths: np.ndarray, batch: int, seed: int | None) -> None:
        self.lengths, self.batch, self.seed = tuple(lengths), batch, seed
        self._bucket = np.searchsorted(np.asarray(lengths), row_lengths)

    def batches(self, order: np.ndarray, epoch: int) -> list[tuple[np.ndarray, int]]:
        """The rows of each batch and its length; rows that fill no batch go into the next longer bucket.

        Args:
            order: rows of the epoch; those of a bucket keep it.
        """
        dealt: list[tuple[np.ndarray, int]] = []
        rest = order[:0]
        for bucket, length in enumerate(self.lengths):
            rows = np.concatenate([rest, order[self._bucket[order] == bucket]])
            whole = len(rows) // self.batch * self.batch
            dealt += [(rows[begin : begin + self.batch], length) for begin in range(0, whole, self.batch)]
            rest = rows[whole:]
        if self.seed is not None:
            places = np.random.default_rng([self.seed, epoch, 1]).permutation(len(dealt))
            dealt = [dealt[place] for place in places]
        return [*dealt, (rest, self.lengths[-1])] if len(rest) else dealt
