"""Batches from MindRecord, in an order that a checkpoint can name and return to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mindcoder.data.encode import IGNORED_LABEL
from mindcoder.data.mindrecord_file import PAIRS, find_dataset
from mindcoder.errors import UserError


@dataclass(frozen=True)
class Position:
    """The next batch to come: ``batch`` counts within ``epoch``."""

    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True)
class Batch:
    """int32 arrays ``[B, S]``. ``labels[b, s]`` is the token to be predicted at position s, or -100."""

    input_ids: np.ndarray
    labels: np.ndarray
    position_ids: np.ndarray
    document_ids: np.ndarray
    rows: np.ndarray | None = None  # numbers of the dataset's rows, as many as there are

    @property
    def row_count(self) -> int:
        """Rows that have a label."""
        return int((self.labels != IGNORED_LABEL).any(1).sum())

    @property
    def label_count(self) -> int:
        """Positions that have a label."""
        return int((self.labels != IGNORED_LABEL).sum())


def shift_labels(labels: np.ndarray) -> np.ndarray:
    """Move each label one position to the left, where it is predicted; the last position has none."""
    shifted = np.full_like(labels, IGNORED_LABEL)
    shifted[:, :-1] = labels[:, 1:]
    return shifted


@dataclass(frozen=True)
class DataLayout:
    """How a run takes its rows; `Position` counts batches of it.

    Attributes:
        rows: of the dataset.
        batch_size: rows of a batch over all data ranks.
        accumulate: batches of an update.
    """

    rows: int
    batch_size: int
    accumulate: int


def same_place(position: Position, before: DataLayout, now: DataLayout) -> Position:
    """A position between two updates, in batches of another layout that takes the same rows in the same order.

    Raises:
        ValueError: another dataset, another number of rows an update, or other rows left over at the end of an epoch.
    """
    if before.rows != now.rows:
        raise ValueError(f"rows {before.rows} instead of {now.rows}")
    if before.batch_size * before.accumulate != now.batch_size * now.accumulate:
        raise ValueError(
            f"an update of {before.batch_size * before.accumulate} rows (batch_size {before.batch_size} x accumulate "
            f"{before.accumulate}) instead of {now.batch_size * now.accumulate} ({now.batch_size} x {now.accumulate})"
        )
    rest = [layout.rows % layout.batch_size for layout in (before, now)]
    rows = position.batch * before.batch_size
    if rest[0] != rest[1] or rows % now.batch_size:
        raise ValueError(f"batches of {before.batch_size} and of {now.batch_size} rows end epochs at other rows")
    return Position(position.epoch, rows // now.batch_size)


class BatchLoader:
    """Batches of a MindRecord dataset.

    The order of epoch e is the permutation drawn from (seed, e), so (epoch, batch) says exactly what comes next.
    Datasets of the old ``wizardcoder_preprocess.py`` (columns ``input_ids`` and maybe ``labels``, rows of
    ``seq_length`` or ``seq_length + 1``) are read too.

    Args:
        location: MindRecord file or folder, or several.
        batch_size: sequences of this process in a batch.
        seq_length: tokens in a sequence.
        vocab_size: of the model; ids beyond it are refused.
        shuffle: False keeps the file's order.
        seed: of the permutations.
        drop_remainder: drop an epoch's last incomplete batch; otherwise it is filled with rows without labels.
        weights: how often an epoch takes the rows of each location; 0.5 takes half of them, other ones each epoch,
            2 takes all of them twice. By default 1 for all.
        rank, world: this process reads its share of every global batch. A position counts global batches, so it means
            the same on any number of processes with the same global batch.
    """

    def __init__(
        self,
        location: str | list[str],
        batch_size: int,
        seq_length: int,
        vocab_size: int,
        shuffle: bool = True,
        seed: int = 0,
        drop_remainder: bool = True,
        rank: int = 0,
        world: int = 1,
        weights: Sequence[float] | None = None,
    ) -> None:
        found = [find_dataset(item) for item in ([location] if isinstance(location, str) else location)]
        self._files = [file for files, _ in found for file in files]
        self._infos = [info for _, info in found if info is not None]
        self._location = location if isinstance(location, str) else ", ".join(location)
        self.batch_size, self.seq_length, self.vocab_size = batch_size, seq_length, vocab_size
        self._shuffle, self._seed, self._drop = shuffle, seed, drop_remainder
        self._rank, self._world = rank, world
        self.global_batch = batch_size * world
        stored, self._columns = self._inspect()
        self._sources = self._share(found, weights, stored)
        self.rows = sum(taken for _, _, taken in self._sources)
        self.batches_per_epoch = (
            self.rows // self.global_batch if drop_remainder else -(-self.rows // self.global_batch)
        )
        if self.batches_per_epoch == 0:
            raise UserError(f"has {self.rows} rows, fewer than one batch of {self.global_batch}", self._location)

    def _inspect(self) -> tuple[int, list[str]]:
        import mindspore.dataset as ds

        for info in self._infos:
            if info.seq_length != self.seq_length:
                raise UserError(
                    f"was preprocessed with seq_length {info.seq_length}, the model has {self.seq_length}",
                    self._location,
                )
            if info.vocab_size > self.vocab_size:
                raise UserError(
                    f"was made with a tokenizer of {info.vocab_size} ids, the model has vocab_size {self.vocab_size}",
                    self._location,
                )
        try:
            dataset = ds.MindDataset(self._files, num_parallel_workers=1, shuffle=False)
            rows, columns = dataset.get_dataset_size(), dataset.get_col_names()
        except RuntimeError as error:
            raise UserError(
                f"is no readable MindRecord: {str(error).strip().splitlines()[0]}", self._location
            ) from None
        if "input_ids" not in columns:
            raise UserError(f"has no column input_ids, only {', '.join(columns)}", self._location)
        known = ("input_ids", "labels", "position_ids", "document_ids")
        return rows, [name for name in known if name in columns]

    def most_labels(self, epochs: int) -> int:
        """Most labelled positions in a batch of one process, over all of ``epochs``; one pass over the labels."""
        import mindspore.dataset as ds

        if "labels" not in self._columns:
            return self.batch_size * self.seq_length
        dataset = ds.MindDataset(self._files, columns_list=["labels"], num_parallel_workers=1, shuffle=False)
        rows = dataset.create_dict_iterator(num_epochs=1, output_numpy=True)
        counts = np.array([(row["labels"].reshape(-1)[1:] != IGNORED_LABEL).sum() for row in rows])
        most = 0
        for epoch in range(epochs):
            taken = counts[self._order(epoch)]
            padded = np.pad(taken, (0, -len(taken) % self.batch_size))
            most = max(most, int(padded.reshape(-1, self.batch_size).sum(1).max()))
        return most

    @property
    def location(self) -> str:
        """Where the rows are from."""
        return self._location

    @property
    def holds_pairs(self) -> bool:
        """Whether every row is a pair of answers."""
        return bool(self._infos) and all(info.statistics.get("kind") == PAIRS for info in self._infos)

    def _share(self, found: list, weights: Sequence[float] | None, stored: int) -> list[tuple[int, int, int]]:
        """First row, number of rows, and rows that an epoch takes, of each location."""
        if weights is None:
            return [(0, stored, stored)]
        import mindspore.dataset as ds

        sources, first = [], 0
        for (files, _), weight in zip(found, weights, strict=True):
            size = ds.MindDataset(files, num_parallel_workers=1, shuffle=False).get_dataset_size()
            sources.append((first, size, round(size * weight)))
            first += size
        return sources

    def _order(self, epoch: int) -> np.ndarray:
        """Rows of an epoch. Each source is an endless row of permutations, of which every epoch takes the next part."""
        if not self._shuffle:
            return np.concatenate([first + np.arange(taken) % size for first, size, taken in self._sources])
        if len(self._sources) == 1 and self._sources[0][1] == self.rows:
            return np.random.default_rng([self._seed, epoch]).permutation(self.rows)
        chosen = []
        for source, (first, size, taken) in enumerate(self._sources):
            begin, end = epoch * taken, (epoch + 1) * taken
            rounds = range(begin // size, -(-end // size))
            if rounds:
                endless = [np.random.default_rng([self._seed, source, number]).permutation(size) for number in rounds]
                skipped = begin - rounds.start * size
                chosen.append(first + np.concatenate(endless)[skipped : skipped + taken])
        rows = np.concatenate(chosen)
        return rows[np.random.default_rng([self._seed, epoch]).permutation(len(rows))]

    def batches(self, start: Position = Position(), epochs: int = 1) -> Iterator[tuple[Batch, Position]]:
        """Batches from ``start`` to the end of epoch ``epochs - 1``, each with the position after it."""
        for epoch in range(start.epoch, epochs):
            first = start.batch if epoch == start.epoch else 0
            for index, batch in enumerate(self._epoch(epoch, first), first + 1):
                done = index == self.batches_per_epoch
                yield batch, Position(epoch + 1, 0) if done else Position(epoch, index)

    def _epoch(self, epoch: int, first: int) -> Iterator[Batch]:
        import mindspore.dataset as ds

        order = self._order(epoch)
        step = self.batch_size * self._world
        mine = []
        for batch in range(first, self.batches_per_epoch):
            begin = batch * step + self._rank * self.batch_size
            mine.append(order[begin : begin + self.batch_size])
        indices = np.concatenate(mine) if mine else np.empty(0, np.int64)
        if len(indices) == 0:
            yield from (self._nothing() for _ in mine)
            return
        dataset = ds.MindDataset(
            self._files, columns_list=self._columns, num_parallel_workers=1, sampler=ds.SubsetSampler(indices.tolist())
        )
        rows = dataset.create_dict_iterator(num_epochs=1, output_numpy=True)
        for chosen in mine:
            yield self._assemble([next(rows) for _ in chosen], chosen) if len(chosen) else self._nothing()

    def _nothing(self) -> Batch:
        """A batch without labels, for a rank that an epoch's last global batch has no rows for."""
        empty = np.zeros((0, self.seq_length), np.int32)
        ids, labels, positions, documents = (self._fill(empty, fill) for fill in (0, IGNORED_LABEL, 0, -1))
        return Batch(ids, labels, positions, documents, np.zeros(0, np.int64))

    def _assemble(self, rows: list[dict[str, np.ndarray]], numbers: np.ndarray) -> Batch:
        columns = {}
        for name in self._columns:
            stacked = np.stack([np.asarray(row[name]).reshape(-1) for row in rows]).astype(np.int32)
            if stacked.shape[1] not in (self.seq_length, self.seq_length + 1):
                raise UserError(
                    f"rows have {stacked.shape[1]} tokens, the model has seq_length {self.seq_length}", self._location
                )
            columns[name] = stacked
        ids = columns["input_ids"]
        if ids.max() >= self.vocab_size or ids.min() < 0:
            raise UserError(f"holds token id {ids.max()}, the model has vocab_size {self.vocab_size}", self._location)
        labels = shift_labels(columns.get("labels", ids))
        positions = columns.get("position_ids", np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape))
        documents = columns.get("document_ids", np.zeros_like(ids))
        batch = [
            self._fill(array[:, : self.seq_length], fill)
            for array, fill in ((ids, 0), (labels, IGNORED_LABEL), (positions, 0), (documents, -1))
        ]
        return Batch(batch[0], batch[1], batch[2], batch[3], numbers)

    def _fill(self, array: np.ndarray, value: int) -> np.ndarray:
        missing = self.batch_size - len(array)
        if missing:
            array = np.concatenate([array, np.full((missing, array.shape[1]), value, array.dtype)])
        return np.ascontiguousarray(array)
