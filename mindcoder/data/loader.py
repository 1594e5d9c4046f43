"""Batches from MindRecord, in an order that a checkpoint can record and resume."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mindcoder.data.buckets import LengthBuckets
from mindcoder.data.encode import IGNORED_LABEL
from mindcoder.data.mindrecord_file import PAIRS, find_dataset
from mindcoder.data.mindrecord_rows import count_rows, readable, stored_rows
from mindcoder.data.order import epoch_order
from mindcoder.errors import UserError


@dataclass(frozen=True)
class Position:
    """The next batch: ``batch`` counts within ``epoch``."""

    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True)
class Batch:
    """int32 arrays ``[B, S]``. ``labels[b, s]`` is the token to be predicted at position s, or -100."""

    input_ids: np.ndarray
    labels: np.ndarray
    position_ids: np.ndarray
    document_ids: np.ndarray
    # indices of the dataset's rows (of a stream: of its records), for the rows that are present
    rows: np.ndarray | None = None

    @property
    def row_count(self) -> int:
        """Number of rows with a label."""
        return int((self.labels != IGNORED_LABEL).any(1).sum())

    @property
    def label_count(self) -> int:
        """Number of positions with a label."""
        return int((self.labels != IGNORED_LABEL).sum())


def shift_labels(labels: np.ndarray) -> np.ndarray:
    """Shift labels one position to the left, where they are predicted; the last position has none."""
    shifted = np.full_like(labels, IGNORED_LABEL)
    shifted[:, :-1] = labels[:, 1:]
    return shifted


@dataclass(frozen=True)
class DataLayout:
    """How a run batches its rows; `Position` counts these batches.

    Attributes:
        rows: number of rows in the dataset.
        batch_size: rows per batch over all data-parallel ranks.
        accumulate: batches per update.
        lengths: of the batches, if rows are bucketed by length.
    """

    rows: int
    batch_size: int
    accumulate: int
    lengths: Sequence[int] = ()


def convert_position(position: Position, before: DataLayout, now: DataLayout) -> Position:
    """Convert a position between two updates to another layout that takes the same rows in the same order.

    Raises:
        ValueError: another dataset, another number of rows per update, or other rows left over at the end of an epoch.
    """
    if before.rows != now.rows:
        raise ValueError(f"rows {before.rows} instead of {now.rows}")
    if before.batch_size * before.accumulate != now.batch_size * now.accumulate:
        raise ValueError(
            f"an update of {before.batch_size * before.accumulate} rows (batch_size {before.batch_size} x accumulate "
            f"{before.accumulate}) instead of {now.batch_size * now.accumulate} ({now.batch_size} x {now.accumulate})"
        )
    if tuple(before.lengths) != tuple(now.lengths) or (now.lengths and before.batch_size != now.batch_size):
        raise ValueError(
            f"batches of {before.batch_size} rows in length_buckets {list(before.lengths)} instead of "
            f"{now.batch_size} in {list(now.lengths)}"
        )
    rest = [layout.rows % layout.batch_size for layout in (before, now)]
    rows = position.batch * before.batch_size
    if rest[0] != rest[1] or rows % now.batch_size:
        raise ValueError(f"batches of {before.batch_size} and of {now.batch_size} rows end epochs at other rows")
    return Position(position.epoch, rows // now.batch_size)


class Loader(Protocol):
    """The interface of a data loader that the trainer uses.

    Attributes:
        rows: number of rows in the dataset.
        batch_size, global_batch: rows per batch, of this rank and of all.
        seq_length: tokens per row.
        batches_per_epoch: number of batches in an epoch.
        lengths: of the batches, if they differ.
        location: source of the rows.
        holds_pairs: whether every row is a preference pair.
        files: from which the rows are read.
    """

    rows: int
    batch_size: int
    global_batch: int
    seq_length: int
    batches_per_epoch: int
    lengths: tuple[int, ...]

    @property
    def location(self) -> str: ...

    @property
    def holds_pairs(self) -> bool: ...

    @property
    def files(self) -> list[Path]: ...

    def digest(self) -> str:
        """Hash of all rows in stored order."""

    def batches(self, start: Position = Position(), epochs: int = 1) -> Iterator[tuple[Batch, Position]]:
        """Batches from ``start`` on, each with the position after it."""


class BatchLoader:
    """Batches of a MindRecord dataset.

    The order of epoch e is a permutation drawn from (seed, e), so (epoch, batch) determines exactly what comes next.
    Datasets of the original ``wizardcoder_preprocess.py`` (columns ``input_ids`` and perhaps ``labels``, rows of
    ``seq_length`` or ``seq_length + 1``) are supported too.

    Args:
        location: MindRecord file or folder, or several.
        batch_size: sequences per batch on this rank.
        seq_length: tokens per sequence.
        vocab_size: of the model; ids beyond it are refused.
        shuffle: False keeps the file order.
        seed: of the permutations.
        drop_remainder: drop an epoch's last incomplete batch; otherwise it is filled up with rows without labels.
        weights: how often an epoch takes the rows of each location, see `mindcoder.data.order.epoch_order`.
        buckets: lengths to which batches of short rows are truncated, see `mindcoder.data.buckets.LengthBuckets`.
        rank, world: this rank reads its part of every global batch. A position counts global batches, so it means
            the same on any number of ranks with the same global batch.
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
        buckets: Sequence[int] = (),
    ) -> None:
        found = [find_dataset(item) for item in ([location] if isinstance(location, str) else location)]
        self._files = [file for files, _ in found for file in files]
        self._infos = [info for _, info in found if info is not None]
        self._location = location if isinstance(location, str) else ", ".join(location)
        self.batch_size, self.seq_length, self.vocab_size = batch_size, seq_length, vocab_size
        self._rank, self._world = rank, world
        self.global_batch = batch_size * world
        stored, self._columns = self._inspect()
        sizes = [stored] if weights is None else [count_rows(files, self._location) for files, _ in found]
        self._order = epoch_order(sizes, weights, shuffle, seed)
        self.rows = self._order.rows
        self.batches_per_epoch = (
            self.rows // self.global_batch if drop_remainder else -(-self.rows // self.global_batch)
        )
        if self.batches_per_epoch == 0:
            raise UserError(f"has {self.rows} rows, fewer than one batch of {self.global_batch}", self._location)
        self.lengths: tuple[int, ...] = ()
        self._buckets: LengthBuckets | None = None
        if buckets:
            self.lengths = (*sorted(size for size in buckets if size < seq_length), seq_length)
            seed_of_batches = seed if shuffle else None
            self._buckets = LengthBuckets(self.lengths, self._row_lengths(), self.global_batch, seed_of_batches)

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
        with readable(self._location):
            dataset = ds.MindDataset(self._files, num_parallel_workers=1, shuffle=False)
            rows, columns = dataset.get_dataset_size(), dataset.get_col_names()
        if "input_ids" not in columns:
            raise UserError(f"has no column input_ids, only {', '.join(columns)}", self._location)
        known = ("input_ids", "labels", "position_ids", "document_ids")
        return rows, [name for name in known if name in columns]

    def most_labels(self, epochs: int) -> dict[int, int]:
        """Largest number of labeled positions in a batch of one rank by batch length, over all of ``epochs``."""
        if "labels" not in self._columns:
            return {length: self.batch_size * length for length in self.lengths or (self.seq_length,)}
        counts = np.array([(labels[1:] != IGNORED_LABEL).sum() for labels in self._values("labels")])
        most: dict[int, int] = {}
        for epoch in range(epochs):
            for rows, length in self._plan(epoch):
                padded = np.pad(counts[rows], (0, -len(rows) % self.batch_size))
                most[length] = max(most.get(length, 0), int(padded.reshape(-1, self.batch_size).sum(1).max()))
        return most

    def _row_lengths(self) -> np.ndarray:
        """Number of tokens in every row."""
        if "document_ids" not in self._columns:
            raise UserError(
                "length_buckets need a dataset of `mindcoder preprocess`: in this one padding cannot be told from text",
                self._location,
            )
        # argmax finds the last token of a document from the row's end; a row of padding alone has none.
        return np.array(
            [len(ids) - (ids[::-1] >= 0).argmax() if (ids >= 0).any() else 0 for ids in self._values("document_ids")]
        )

    def _values(self, column: str) -> Iterator[np.ndarray]:
        """A column of all rows in file order; one pass."""
        for row in stored_rows(self._files, self._location, [column]):
            yield row[column].reshape(-1)

    @property
    def location(self) -> str:
        """Source of the rows."""
        return self._location

    @property
    def files(self) -> list[Path]:
        """The MindRecord files."""
        return [Path(file) for file in self._files]

    def digest(self) -> str:
        """Hash of all rows in stored order; one pass."""
        import mindspore.dataset as ds

        total = hashlib.sha256()
        dataset = ds.MindDataset(self._files, columns_list=self._columns, num_parallel_workers=1, shuffle=False)
        for row in dataset.create_dict_iterator(num_epochs=1, output_numpy=True):
            for name in self._columns:
                total.update(np.ascontiguousarray(row[name], np.int32).data)
        return total.hexdigest()

    @property
    def holds_pairs(self) -> bool:
        """Whether every row is a preference pair."""
        return bool(self._infos) and all(info.statistics.get("kind") == PAIRS for info in self._infos)

    def batches(self, start: Position = Position(), epochs: int = 1) -> Iterator[tuple[Batch, Position]]:
        """Batches from ``start`` to the end of epoch ``epochs - 1``, each with the position after it."""
        for epoch in range(start.epoch, epochs):
            first = start.batch if epoch == start.epoch else 0
            for index, batch in enumerate(self._epoch(epoch, first), first + 1):
                done = index == self.batches_per_epoch
                yield batch, Position(epoch + 1, 0) if done else Position(epoch, index)

    def _plan(self, epoch: int) -> list[tuple[np.ndarray, int]]:
        """Rows and length of each global batch of an epoch; the last one may be short."""
        order, size = self._order.rows_of_epoch(epoch), self.global_batch
        if self._buckets is not None:
            return self._buckets.batches(order, epoch)[: self.batches_per_epoch]
        return [(order[begin : begin + size], self.seq_length) for begin in range(0, len(order), size)][
            : self.batches_per_epoch
        ]

    def _epoch(self, epoch: int, first: int) -> Iterator[Batch]:
        import mindspore.dataset as ds

        own = slice(self._rank * self.batch_size, (self._rank + 1) * self.batch_size)
        mine = [(rows[own], length) for rows, length in self._plan(epoch)[first:]]
        indices = np.concatenate([rows for rows, _ in mine]) if mine else np.empty(0, np.int64)
        if len(indices) == 0:
            yield from (self._nothing(length) for _, length in mine)
            return
        stored = stored_rows(self._files, self._location, self._columns, ds.SubsetSampler(indices.tolist()))
        for rows, length in mine:
            yield self._assemble([next(stored) for _ in rows], rows, length) if len(rows) else self._nothing(length)

    def _nothing(self, length: int) -> Batch:
        """A batch without labels, for a rank to which an epoch's last global batch has no rows to give."""
        empty = np.zeros((0, length), np.int32)
        ids, labels, positions, documents = (self._fill(empty, fill) for fill in (0, IGNORED_LABEL, 0, -1))
        return Batch(ids, labels, positions, documents, np.zeros(0, np.int64))

    def _assemble(self, rows: list[dict[str, np.ndarray]], numbers: np.ndarray, length: int) -> Batch:
        columns = {name: self._column(name, rows) for name in self._columns}
        ids = columns["input_ids"]
        labels = shift_labels(columns.get("labels", ids))
        positions = columns.get("position_ids", np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape))
        documents = columns.get("document_ids", np.zeros_like(ids))
        batch = [
            self._fill(array[:, :length], fill)
            for array, fill in ((ids, 0), (labels, IGNORED_LABEL), (positions, 0), (documents, -1))
        ]
        return Batch(batch[0], batch[1], batch[2], batch[3], numbers)

    def _column(self, name: str, rows: list[dict[str, np.ndarray]]) -> np.ndarray:
        """A column of rows, validated for the model.

        Raises:
            UserError: wrong length, or values that the column cannot hold.
        """
        lengths = {row[name].size for row in rows}
        other = lengths - {self.seq_length, self.seq_length + 1}
        if other or len(lengths) > 1:
            found = min(other or lengths)
            raise UserError(f"rows have {found} tokens, the model has seq_length {self.seq_length}", self._location)
        stacked = np.stack([np.asarray(row[name]).reshape(-1) for row in rows])
        if stacked.dtype.kind not in "iu":
            raise UserError(f"column {name} holds {stacked.dtype}, expected whole numbers", self._location)
        known = stacked if name != "labels" else np.where(stacked == IGNORED_LABEL, 0, stacked)
        low, high = (-1, len(stacked[0])) if name == "document_ids" else (0, len(stacked[0]))
        if name in ("input_ids", "labels"):
            high = self.vocab_size
        if known.max() >= high or known.min() < low:
            wrong = known.max() if known.max() >= high else known.min()
            limit = f"the model has vocab_size {high}" if high == self.vocab_size else f"rows have {high} tokens"
            raise UserError(f"column {name} holds {wrong}, {limit}", self._location)
        if name == "document_ids":
            self._check_order(stacked)
        return stacked.astype(np.int32)

    def _check_order(self, document_ids: np.ndarray) -> None:
        """Attention takes a document's tokens side by side, so each number stands in one place of a row.

        Raises:
            UserError: it stands in several.
        """
        for row in document_ids:
            runs = row[np.flatnonzero(np.diff(row, prepend=row[0] + 1))]
            numbers, times = np.unique(runs, return_counts=True)
            if times.max() > 1:
                twice = numbers[times > 1][0]
                raise UserError(
                    f"column document_ids has {twice} in {times.max()} places of a row; expected one, as the tokens of "
                    "a document lie side by side",
                    self._location,
                )

    def _fill(self, array: np.ndarray, value: int) -> np.ndarray:
        missing = self.batch_size - len(array)
        if missing:
            array = np.concatenate([array, np.full((missing, array.shape[1]), value, array.dtype)])
        return np.ascontiguousarray(array)
