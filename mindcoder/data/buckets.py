"""Batches of rows of similar length, truncated to it so that padding is not computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class LengthBuckets:
    """Assigns rows to batches by length.

    Args:
        lengths: allowed batch lengths, ascending; the last one is that of the rows. Each needs a compiled graph.
        row_lengths: number of tokens in every row of the dataset, without padding.
        batch: rows per batch.
        seed: of the order of the batches; None keeps the short ones first.
    """

    def __init__(self, lengths: Sequence[int], row_lengths: np.ndarray, batch: int, seed: int | None) -> None:
        self.lengths, self.batch, self.seed = tuple(lengths), batch, seed
        self._bucket = np.searchsorted(np.asarray(lengths), row_lengths)

    def batches(self, order: np.ndarray, epoch: int) -> list[tuple[np.ndarray, int]]:
        """The rows of each batch and its length; rows that do not fill a batch move to the next longer bucket.

        Args:
            order: rows of the epoch; their order is kept within a bucket.
        """
        dealt: list[tuple[np.ndarray, int]] = []
        rest = order[:0]
        for bucket, length in enumerate(self.lengths):
            rows = np.concatenate([rest, order[self._bucket[order] == bucket]])
            whole = len(rows) // self.batch * self.batch
            dealt += [(rows[begin : begin + self.batch], length) for begin in range(0, whole, self.batch)]
            rest = rows[whole:]
        if self.seed is not None:
            order = np.random.default_rng([self.seed, epoch, 1]).permutation(len(dealt))
            dealt = [dealt[number] for number in order]
        return [*dealt, (rest, self.lengths[-1])] if len(rest) else dealt
