"""The texts that two models are compared on, as token ids that both tokenizers agree on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from mindcoder.data.preprocess import RecordEncoder, reasons
from mindcoder.data.readers import AnyRecord, BadRecord, Document, Pair, Reading, expand_glob, read_records
from mindcoder.data.sources import resolve
from mindcoder.errors import UserError
from mindcoder.tokenizer import CodeTokenizer

PIECE = 1 << 20  # characters of a plain text that are tokenized together


@dataclass(frozen=True)
class Text:
    """Token ids of a record, or of a part of a long document.

    Attributes:
        file: of the record.
        line: of the record in JSONL, from 1; None elsewhere.
        record: index in the file, from 0.
        start: position of the first id in the record.
        ids: int32 ``[S]``, ``S`` of at least 2.
        truncated: whether the record goes on.
    """

    file: str
    line: int | None
    record: int
    start: int
    ids: np.ndarray
    truncated: bool = False

    @property
    def predictions(self) -> int:
        """Number of tokens that follow others."""
        return len(self.ids) - 1

    @property
    def place(self) -> str:
        """File and line, or file and record."""
        return f"{self.file}:{self.line}" if self.line is not None else f"{self.file}, record {self.record}"


@dataclass
class Survey:
    """What there is to compare on.

    Attributes:
        texts: number of them.
        tokens: that are predicted.
        truncated: records that are longer than a text may be.
        rejects: records that give no text, with the reason.
    """

    texts: int = 0
    tokens: int = 0
    truncated: int = 0
    rejects: list[BadRecord] = field(default_factory=list)

    def remarks(self) -> list[str]:
        """Lines about what is not compared."""
        cut = [f"{self.truncated} records are cut at max_length"] if self.truncated else []
        return cut + ([f"left out: {reasons(self.rejects)}"] if self.rejects else [])


@dataclass(frozen=True)
class TextReader:
    """Reads texts from JSON, JSONL and plain text files, one record at a time.

    Attributes:
        files: to read, in this order.
        reading: of their records.
        template: that instructions are filled into.
        max_length: longest text, in tokens; documents become several texts, other records are cut.
        tokens: how many predictions to compare at most; None for all.
    """

    files: tuple[Path, ...]
    reading: Reading
    template: str
    max_length: int
    tokens: int | None = None

    def texts(self, tokenizer: CodeTokenizer, rejects: list[BadRecord] | None = None) -> Iterator[Text]:
        """The texts in their order, up to ``tokens`` predictions.

        Args:
            rejects: takes the records that give no text.

        Raises:
            UserError: a record is broken.
        """
        left = self.tokens
        for text in self._all(tokenizer, [] if rejects is None else rejects):
            if left is not None:
                text = replace(text, ids=text.ids[: left + 1])
                left -= text.predictions
            yield text
            if left == 0:
                return

    def survey(self, first: CodeTokenizer, second: CodeTokenizer, vocab_size: int) -> Survey:
        """Tokenize everything once, before a model is loaded.

        Args:
            first, second: tokenizers of the two models.
            vocab_size: ids that both models have.

        Raises:
            UserError: the tokenizers give a text different ids, an id is none of the models', or there is no text.
        """
        found = Survey()
        for text, other in zip_longest(self.texts(first, found.rejects), self.texts(second)):
            _check_same(text, other, first, second)
            largest = int(text.ids.max())
            if largest >= vocab_size:
                raise UserError(
                    f"record {text.record}: token id {largest} is outside of the models' vocabulary of {vocab_size}",
                    text.file,
                    text.line,
                )
            found.texts += 1
            found.tokens += text.predictions
            found.truncated += text.truncated
        if not found.texts:
            told = f": {reasons(found.rejects)}" if found.rejects else ""
            raise UserError(f"holds no text to compare on{told}", ", ".join(map(str, self.files)))
        return found

    def _all(self, tokenizer: CodeTokenizer, rejects: list[BadRecord]) -> Iterator[Text]:
        encoder = RecordEncoder(tokenizer, self.max_length, self.template)
        start, before = 0, ("", 0)
        for record in self._records(rejects):
            examples = encoder.encode(record)
            if isinstance(examples, BadRecord):
                rejects.append(examples)
                continue
            continues = isinstance(record, Document) and (record.file, record.index) == before
            start, before = start if continues else 0, (record.file, record.index)
            for example in examples:
                ids = example.input_ids
                if len(ids) > 1:
                    yield Text(record.file, record.line, record.index, start, ids, example.truncated)
                start += len(ids)

    def _records(self, rejects: list[BadRecord]) -> Iterator[AnyRecord]:
        """Records; of a pair both answers, and a very long document in parts."""
        for file in self.files:
            for record in read_records(file, self.reading):
                if isinstance(record, BadRecord):
                    if record.broken:
                        raise record.error()
                    rejects.append(record)
                elif isinstance(record, Pair):
                    yield from record.records()
                elif isinstance(record, Document):
                    yield from (replace(record, content=part) for part in _parts(record.content))
                else:
                    yield record


def find_texts(data: str | Path) -> tuple[tuple[Path, ...], Reading]:
    """The files of ``data`` (a file, a glob or a registered name), and how their records are read.

    Raises:
        UserError: nothing is there.
    """
    sources = resolve([str(data)], Reading())
    return tuple(expand_glob(sources.patterns)), sources.reading


def _parts(content: str) -> Iterator[str]:
    """A text in parts of at most `PIECE` characters, which end at line ends where there are some."""
    begin = 0
    while len(content) - begin > PIECE:
        end = content.rfind("\n", begin, begin + PIECE) + 1
        end = end if end > begin else begin + PIECE
        yield content[begin:end]
        begin = end
    yield content[begin:]


def _check_same(text: Text | None, other: Text | None, first: CodeTokenizer, second: CodeTokenizer) -> None:
    """Refuse tokenizers that give different ids.

    Raises:
        UserError: names the text and the first token that differs.
    """
    there = text or other
    assert there is not None
    if text is not None and other is not None and (text.record, text.start) == (other.record, other.start):
        if np.array_equal(text.ids, other.ids):
            return
        same = next(
            (index for index, pair in enumerate(zip(text.ids, other.ids)) if pair[0] != pair[1]),
            min(len(text.ids), len(other.ids)),
        )
        ours, theirs = _shown(text.ids, same, first), _shown(other.ids, same, second)
        told = f"token {text.start + same} is {ours} by A's and {theirs} by B's"
    else:
        told = "one of them gives more tokens"
    raise UserError(
        f"record {there.record}: the two tokenizers give this text different ids: {told}", there.file, there.line
    )


def _shown(ids: np.ndarray, index: int, tokenizer: CodeTokenizer) -> str:
    return f"{tokenizer.decode([int(ids[index])])!r} ({ids[index]})" if index < len(ids) else "the end"
