"""The texts that a model is calibrated on: records as fine-tuning reads them, in rows of one length."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindcoder.data.preprocess import RecordEncoder, reasons
from mindcoder.data.readers import AnyRecord, BadRecord, Pair, Reading, expand_glob, read_records
from mindcoder.data.sources import resolve
from mindcoder.errors import UserError
from mindcoder.tokenizer import CodeTokenizer

log = logging.getLogger(__name__)

SAMPLES, LENGTH = 128, 512  # defaults


@dataclass(frozen=True)
class CalibrationOptions:
    """What a model is calibrated on.

    Attributes:
        data: JSON, JSONL or text file, glob, or a registered name.
        samples: rows of tokens.
        length: tokens of a row, cut to the model's positions.
        seed: of the order in which records are taken.
        tokenizer: vocabulary file or folder, if the model has none with it.
        template: prompt template of instructions; by default the one that the model was trained with.
    """

    data: str
    samples: int = SAMPLES
    length: int = LENGTH
    seed: int = 0
    tokenizer: str | None = None
    template: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("samples", 1), ("length", 2), ("seed", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise UserError(f"{name}: expected a whole number from {least}, found {value!r:.40}")


@dataclass(frozen=True)
class TokenRow:
    """A row of tokens; texts lie side by side in it and see only themselves.

    Attributes:
        ids: int32 ``[length]``; what is not used is 0.
        positions: int32 ``[length]``, from 0 in every text.
        texts: int32 ``[length]``, which text a token belongs to.
        used: tokens at the beginning that count.
    """

    ids: np.ndarray
    positions: np.ndarray
    texts: np.ndarray
    used: int


def read_rows(
    options: CalibrationOptions, tokenizer: CodeTokenizer, template: str, length: int, vocab_size: int
) -> list[TokenRow]:
    """The rows to calibrate on: texts in random order, the last one of a row cut at its end.

    Args:
        template: that instructions are filled into.
        length: of a row.
        vocab_size: token ids that the model has.

    Raises:
        UserError: nothing is there, a record is broken, there is no text, or a token id is none of the model's.
    """
    rejects: list[BadRecord] = []
    rows: list[TokenRow] = []
    pending: list[np.ndarray] = []
    room = length
    for ids in _texts(options, RecordEncoder(tokenizer, length, template), rejects):
        if ids.max() >= vocab_size:
            raise UserError(
                f"token id {ids.max()} is outside of the model's vocabulary of {vocab_size}: this is another tokenizer",
                options.data,
            )
        pending.append(ids[:room])
        room -= len(pending[-1])
        if not room:
            rows.append(_row(pending, length))
            pending, room = [], length
            if len(rows) == options.samples:
                break
    if pending and len(rows) < options.samples:
        rows.append(_row(pending, length))
    told = reasons(rejects) if rejects else ""
    if not rows:
        raise UserError(f"holds no text to calibrate on{f': {told}' if told else ''}", options.data)
    if told:
        log.warning("%s: left out: %s", options.data, told)
    if len(rows) < options.samples:
        log.warning(
            "%s: %d rows of %d tokens, %d were asked for (--samples)", options.data, len(rows), length, options.samples
        )
    return rows


def _texts(options: CalibrationOptions, encoder: RecordEncoder, rejects: list[BadRecord]) -> Iterator[np.ndarray]:
    """Token ids of the records, in random order."""
    records = list(_records(options.data, rejects))
    for index in np.random.default_rng(options.seed).permutation(len(records)):
        examples = encoder.encode(records[index])
        if isinstance(examples, BadRecord):
            rejects.append(examples)
            continue
        yield from (example.input_ids for example in examples if len(example.input_ids))


def _records(data: str, rejects: list[BadRecord]) -> Iterator[AnyRecord]:
    """Records of all files; of a pair both answers."""
    sources = resolve([data], Reading())
    for file in expand_glob(sources.patterns):
        for record in read_records(Path(file), sources.reading):
            if isinstance(record, BadRecord):
                if record.broken:
                    raise record.error()
                rejects.append(record)
            elif isinstance(record, Pair):
                yield from record.records()
            else:
                yield record


def _row(texts: list[np.ndarray], length: int) -> TokenRow:
    used = sum(map(len, texts))
    ids, positions = np.zeros(length, np.int32), np.zeros(length, np.int32)
    numbers = np.full(length, len(texts), np.int32)
    ids[:used] = np.concatenate(texts)
    positions[:used] = np.concatenate([np.arange(len(text)) for text in texts])
    positions[used:] = np.arange(length - used)
    numbers[:used] = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    return TokenRow(ids, positions, numbers, used)
