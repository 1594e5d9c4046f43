"""Rows of equal length: one padded example, or several packed examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mindcoder.data.encode import IGNORED_LABEL, Example

COLUMNS = ("input_ids", "labels", "position_ids", "document_ids")


@dataclass
class Row:
    """Four int32 arrays of ``seq_length``. Padding has document id -1 and no label.

    ``position_ids`` restart at 0 in every document; tokens attend within their own document (``document_ids``) only.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    position_ids: np.ndarray
    document_ids: np.ndarray
    used: int
    records: tuple[int, ...] = ()  # indices of the records in it, if they are numbered

    def columns(self) -> dict[str, np.ndarray]:
        """The arrays by column name."""
        return {name: getattr(self, name) for name in COLUMNS}


def pack(examples: list[Example], seq_length: int, pad_id: int) -> Row:
    """Concatenate ``examples`` into one row.

    The first label of every document is dropped: nothing within the document predicts it.
    """
    ids = np.full(seq_length, pad_id, np.int32)
    labels = np.full(seq_length, IGNORED_LABEL, np.int32)
    positions = np.zeros(seq_length, np.int32)
    documents = np.full(seq_length, -1, np.int32)
    start = 0
    for number, example in enumerate(examples):
        stop = start + len(example.input_ids)
        ids[start:stop] = example.input_ids
        labels[start:stop] = example.labels
        labels[start] = IGNORED_LABEL
        positions[start:stop] = np.arange(stop - start)
        documents[start:stop] = number
        start = stop
    return Row(ids, labels, positions, documents, start, tuple(example.record for example in examples))


def pad_each(examples: Iterable[Example], seq_length: int, pad_id: int) -> Iterator[Row]:
    """One row per example."""
    for example in examples:
        yield pack([example], seq_length, pad_id)


def pair_rows(examples: Iterable[Example], seq_length: int, pad_id: int) -> Iterator[Row]:
    """Two consecutive examples per row: a chosen and a rejected answer."""
    items = iter(examples)
    for chosen in items:
        yield pack([chosen, next(items)], seq_length, pad_id)


def pack_first_fit(examples: Iterable[Example], seq_length: int, pad_id: int, open_rows: int = 64) -> Iterator[Row]:
    """First-fit packing: put each example into the first of up to ``open_rows`` rows with room; emit the fullest if
    none has.

    Deterministic, one pass, memory bounded by ``open_rows``.
    """
    rows: list[list[Example]] = []
    room: list[int] = []
    for example in examples:
        length = len(example.input_ids)
        slot = next((index for index, free in enumerate(room) if free >= length), None)
        if slot is None:
            if len(rows) == open_rows:
                fullest = room.index(min(room))
                yield pack(rows.pop(fullest), seq_length, pad_id)
                room.pop(fullest)
            rows.append([])
            room.append(seq_length)
            slot = len(rows) - 1
        rows[slot].append(example)
        room[slot] -= length
    for waiting in rows:
        yield pack(waiting, seq_length, pad_id)
