"""Batches straight from JSON and JSONL: records are tokenized, rearranged and packed on demand.

A stream is endless; passes over the data follow one another, each with new fill-in-the-middle draws. Row i of every
global batch is packed from its own records, so the batches are the same on any number of ranks.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from pathlib import Path

import numpy as np

from mindcoder.data.encode import Example
from mindcoder.data.infill import InfillOptions, InfillRearranger
from mindcoder.data.loader import Batch, Position, shift_labels
from mindcoder.data.order import epoch_order
from mindcoder.data.packing import Row, pack_first_fit
from mindcoder.data.preprocess import RecordEncoder
from mindcoder.data.readers import BadRecord, Reading, Remarks, expand_glob
from mindcoder.data.record_index import RecordIndex
from mindcoder.tokenizer import CodeTokenizer

OPEN_ROWS = 8  # rows that are open for packing at a time
BATCHES_AHEAD = 2
SEEDS_OF_A_PASS = 1_000_003

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamOptions:
    """How records become rows, and the number of batches of a run; the rest is as for `BatchLoader`."""

    seq_length: int
    template: str
    infill: InfillOptions = InfillOptions()
    batches: int = 1
    batch_size: int = 1
    shuffle: bool = True
    seed: int = 0
    weights: Sequence[float] | None = None
    rank: int = 0
    world: int = 1
    reading: Reading = Reading()


class StreamLoader:
    """The interface of `mindcoder.data.loader.BatchLoader` over files of records; one epoch that lasts as long as the
    run.

    To resume at a position, everything before it is tokenized again.

    Args:
        locations: JSON or JSONL files.

    Raises:
        UserError: a file is missing or empty, or the tokenizer lacks the fill-in-the-middle tokens that are needed.
    """

    holds_pairs = False
    lengths: tuple[int, ...] = ()

    def __init__(self, locations: Sequence[str], tokenizer: CodeTokenizer, options: StreamOptions) -> None:
        if options.infill.rate > 0:
            InfillRearranger(tokenizer, options.infill)  # refuses a tokenizer without fill-in-the-middle tokens
        self._locations = list(locations)
        self.location = ", ".join(locations)
        self.records = RecordIndex(locations, options.reading)
        self.options, self.tokenizer = options, tokenizer
        self.batch_size, self.seq_length = options.batch_size, options.seq_length
        self.global_batch = options.batch_size * options.world
        self.order = epoch_order(self.records.sizes, options.weights, options.shuffle, options.seed)
        self.rows = self.order.rows  # records per pass
        self.batches_per_epoch = options.batches
        self._remarks = Remarks()
        self._order_of = lru_cache(maxsize=4)(self.order.rows_of_epoch)

    @property
    def files(self) -> list[Path]:
        """The files of records."""
        return [file for location in self._locations for file in expand_glob(Path(location))]

    def digest(self) -> str:
        """Hash of the files' bytes."""
        total = hashlib.sha256()
        for file in self.files:
            with open(file, "rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()

    def batches(self, start: Position = Position(), epochs: int = 1) -> Iterator[tuple[Batch, Position]]:
        """Batches from ``start`` on, each with the position after it; prefetched by a thread.

        Raises:
            UserError: a record is invalid, or none is usable.
        """
        made: queue.Queue = queue.Queue(BATCHES_AHEAD)
        stopped = threading.Event()

        def make() -> None:
            try:
                for item in self._made(start):
                    while not stopped.is_set():
                        try:
                            made.put(item, timeout=0.1)
                            break
                        except queue.Full:
                            continue
                    if stopped.is_set():
                        return
                made.put(None)
            except BaseException as error:  # raised again by the caller
                made.put(error)

        thread = threading.Thread(target=make, name="stream", daemon=True)
        thread.start()
        try:
            while (item := made.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stopped.set()
            thread.join()

    def _made(self, start: Position) -> Iterator[tuple[Batch, Position]]:
        first = self.options.rank * self.batch_size
        slots = [self._rows_of(slot) for slot in range(first, first + self.batch_size)]
        for number in range(self.batches_per_epoch):
            rows = [next(slot) for slot in slots]
            if number >= start.batch and start.epoch == 0:
                done = number + 1 == self.batches_per_epoch
                yield _batch(rows), Position(1, 0) if done else Position(0, number + 1)

    def _rows_of(self, slot: int) -> Iterator[Row]:
        """Row ``slot`` of every global batch."""
        return pack_first_fit(self._examples(slot), self.seq_length, self.tokenizer.pad_id, OPEN_ROWS)

    def _examples(self, slot: int) -> Iterator[Example]:
        """The examples packed into a slot's rows: every ``global_batch``-th record of the endless stream of passes."""
        options, unusable = self.options, 0
        for position in count(slot, self.global_batch):
            turn, index = divmod(position, self.rows)
            number = int(self._order_of(turn)[index])
            infill = replace(options.infill, seed=options.infill.seed + turn * SEEDS_OF_A_PASS)
            encoder = RecordEncoder(self.tokenizer, self.seq_length, options.template, infill)
            record = self.records[number]
            if options.rank == 0 and (remark := self._remarks.see(record)):
                log.warning("%s", remark)
            result = encoder.encode(record)
            if isinstance(result, BadRecord):
                unusable += 1
                if result.broken or unusable > self.rows:
                    raise result.error()
                continue
            unusable = 0
            for example in result:
                yield replace(example, record=number)


def _batch(rows: Sequence[Row]) -> Batch:
    ids, labels, positions, documents = (
        np.stack([getattr(row, name) for row in rows])
        for name in ("input_ids", "labels", "position_ids", "document_ids")
    )
    numbers = np.array([number for row in rows for number in row.records], np.int64)
    return Batch(ids, shift_labels(labels), positions, documents, numbers)
