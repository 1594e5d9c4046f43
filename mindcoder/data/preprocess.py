"""Converts instruction files to MindRecord, on all cores."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from mindcoder.data.encode import Example, encode_document, encode_messages, encode_record
from mindcoder.data.infill import InfillOptions, InfillRearranger
from mindcoder.data.mindrecord_file import PAIRS, DatasetInfo, info_path, part_names, write_dataset
from mindcoder.data.own_template import template_of
from mindcoder.data.packing import Row, pack_first_fit, pad_each, pair_rows
from mindcoder.data.prompt import DEFAULT_TEMPLATE, OWN
from mindcoder.data.readers import (
    AnyRecord,
    BadRecord,
    Conversation,
    Document,
    Pair,
    Reading,
    Record,
    Remarks,
    expand_glob,
    read_records,
)
from mindcoder.data.text_format import format_with
from mindcoder.errors import UserError
from mindcoder.files import write_text
from mindcoder.outputs import refuse_as_output, refuse_present
from mindcoder.progress import tqdm
from mindcoder.tokenizer import CodeTokenizer
from mindcoder.tokenizer.chat_template import ChatTemplate
from mindcoder.tokenizer.fingerprint import fingerprint
from mindcoder.tokenizer.render_process import CannotRender
from mindcoder.tokenizer.special_tokens import SpecialTokens

CHUNK = 128  # records handed to a worker at a time
REASONS = 5  # reasons for rejection listed, most frequent first


@dataclass(frozen=True)
class PreprocessOptions:
    """Options of the command line; see ``mindcoder preprocess --help``."""

    input_glob: str | Sequence[str]
    output_file: Path
    seq_length: int
    packing: bool = False
    skip_bad: bool = False
    workers: int = 0
    file_partition: int = 1
    template: str = DEFAULT_TEMPLATE
    show_progress: bool = True
    infill: InfillOptions = InfillOptions()
    pairs: bool = False
    reading: Reading = Reading()
    overwrite: bool = False


def reasons(rejects: Iterable[BadRecord]) -> str:
    """Reasons for rejection with their counts, most frequent first."""
    counts = Counter(item.reason[:200] for item in rejects).most_common()
    parts = [f"{reason} ({count})" for reason, count in counts[:REASONS]]
    rest = sum(count for _, count in counts[REASONS:])
    return "; ".join([*parts, *([f"other reasons ({rest})"] if rest else [])])


@dataclass
class Statistics:
    """Counts of a run of preprocessing."""

    records: int = 0
    rows: int = 0
    tokens: int = 0
    answer_tokens: int = 0
    truncated: int = 0
    rejected: int = 0
    seq_length: int = 0
    rejects: list[BadRecord] = field(default_factory=list)
    kind: str = "texts"
    remarks: Remarks = field(default_factory=Remarks)

    @property
    def padding_share(self) -> float:
        """Fraction of the rows' positions that are padding."""
        total = self.rows * self.seq_length
        return 1 - self.tokens / total if total else 0.0

    def as_dict(self) -> dict[str, Any]:
        """As data for the dataset's description."""
        return {
            "kind": self.kind,
            "records": self.records,
            "rows": self.rows,
            "tokens": self.tokens,
            "answer_tokens": self.answer_tokens,
            "truncated": self.truncated,
            "rejected": self.rejected,
            "padding_share": round(self.padding_share, 4),
        }

    def lines(self) -> list[str]:
        """The statistics as text."""
        return [
            f"records {self.records} (rejected {self.rejected}, truncated {self.truncated})",
            *([f"rejected: {self.reasons()}"] if self.rejects else []),
            f"rows {self.rows} of {self.seq_length} tokens, padding {self.padding_share:.1%}",
            f"tokens {self.tokens}, of them answer {self.answer_tokens}",
        ]

    def reasons(self) -> str:
        """Reasons for rejection with their counts."""
        return reasons(self.rejects)


NO_PAIR = "is not a pair (chosen, rejected), and --pairs takes nothing else; leave --pairs out for this file"
A_PAIR = (
    "is a pair of answers (chosen, rejected), for preference tuning: preprocess this file by itself with --pairs, or "
    "name the other files only"
)


@dataclass(frozen=True)
class RecordEncoder:
    """Everything needed to turn a record into an example."""

    tokenizer: CodeTokenizer
    max_length: int
    template: str
    infill: InfillOptions = InfillOptions()
    pairs: bool = False

    def encode(self, record: AnyRecord | BadRecord) -> list[Example] | BadRecord:
        """The examples of a record (one, or several of a long document), or why there is none."""
        if isinstance(record, BadRecord):
            return record
        if isinstance(record, Pair) is not self.pairs:
            return self._reject(record, NO_PAIR if self.pairs else A_PAIR, True)
        if isinstance(record, Pair):
            try:
                both = [self._answered(item, self.max_length // 2) for item in record.records()]
            except CannotRender as error:
                return self._reject(record, str(error), True)
            if None not in both:
                return [item for item in both if item is not None]
            return self._reject(record, f"the prompt alone fills half of seq_length {self.max_length}", False)
        if isinstance(record, Document):
            return encode_document(record, self.tokenizer, self.max_length, self.infill)
        try:
            example = self._answered(record, self.max_length)
        except CannotRender as error:  # the model's own template refuses this conversation
            return self._reject(record, str(error), True)
        if example is not None:
            return [example]
        return self._reject(
            record, f"the prompt alone fills seq_length {self.max_length}: no room for an answer", False
        )

    def _answered(self, record: Record | Conversation, room: int) -> Example | None:
        if isinstance(record, Conversation):
            return encode_messages(record, self.tokenizer, room, self.template)
        return encode_record(record, self.tokenizer, room, self.template)

    def _reject(self, record: AnyRecord, reason: str, broken: bool) -> BadRecord:
        text = json.dumps(record.fields(), ensure_ascii=False)
        return BadRecord(record.file, record.index, record.line, reason, text, broken=broken)


_worker_encoder: RecordEncoder


def _start_worker(
    backend_json: str,
    special: SpecialTokens,
    chat_template: ChatTemplate | None,
    max_length: int,
    template: str,
    infill: InfillOptions,
    pairs: bool,
) -> None:
    """Give this worker process its tokenizer. Stored in process state, because a pool offers nothing else."""
    global _worker_encoder
    from tokenizers import Tokenizer

    tokenizer = CodeTokenizer(Tokenizer.from_str(backend_json), special, chat_template)
    _worker_encoder = RecordEncoder(tokenizer, max_length, template, infill, pairs)


def _encode_chunk(records: list[AnyRecord | BadRecord]) -> list[list[Example] | BadRecord]:
    return [_worker_encoder.encode(record) for record in records]


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


@contextlib.contextmanager
def encoded(
    records: Iterable[AnyRecord | BadRecord], encoder: RecordEncoder, workers: int
) -> Iterator[Iterator[list[Example] | BadRecord]]:
    """Examples and rejects in record order, whatever the number of workers.

    The worker processes start here, before the caller imports anything that starts threads.
    """
    if workers <= 1:
        yield (encoder.encode(record) for record in records)
        return
    context = multiprocessing.get_context("fork")
    tokenizer = encoder.tokenizer
    settings = (
        tokenizer.backend.to_str(),
        tokenizer.special,
        tokenizer.chat_template,
        encoder.max_length,
        encoder.template,
        encoder.infill,
        encoder.pairs,
    )
    with context.Pool(workers, _start_worker, settings) as pool:
        chunks = pool.imap(_encode_chunk, _chunks(records, CHUNK))
        yield (result for results in chunks for result in results)


def _accepted(
    results: Iterable[list[Example] | BadRecord], statistics: Statistics, skip_bad: bool
) -> Iterator[Example]:
    for result in results:
        statistics.records += 1
        if isinstance(result, BadRecord):
            if result.broken and not skip_bad:
                raise result.error()
            statistics.rejected += 1
            statistics.rejects.append(result)
            continue
        for example in result:
            statistics.tokens += len(example.input_ids)
            statistics.answer_tokens += example.answer_tokens
            statistics.truncated += example.truncated
            yield example


def _read(files: Sequence[Path], reading: Reading, remarks: Remarks) -> Iterator[AnyRecord | BadRecord]:
    for file in files:
        records = remarks.watch(read_records(file, reading))
        first = next(records, None)
        if first is None:
            remarks.empty.append(str(file))
            continue
        yield first
        yield from records


def _nothing_usable(options: PreprocessOptions, statistics: Statistics) -> UserError:
    """The error that no record is usable."""
    given = [options.input_glob] if isinstance(options.input_glob, str) else list(options.input_glob)
    sources = ", ".join(map(str, given))
    if not statistics.records:
        return UserError("holds no record", sources)
    count = f"the {statistics.records} records" if statistics.records > 1 else "the only record"
    return UserError(f"nothing to learn: {count} cannot be used: {statistics.reasons()}", sources)


def _counted(rows: Iterable[Row], statistics: Statistics) -> Iterator[Row]:
    for row in rows:
        statistics.rows += 1
        yield row


def preprocess(options: PreprocessOptions, tokenizer: CodeTokenizer) -> tuple[DatasetInfo, Statistics]:
    """Read, tokenize, mask, pad or pack, and write.

    Raises:
        UserError: no file, a bad record without ``skip_bad``, no usable record, no space; the output exists and
            ``overwrite`` is not set.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # processes, not threads, share the cores
    files = expand_glob(options.input_glob)
    written = output_files(options.output_file, options.file_partition)
    refuse_as_output(written, files)
    refuse_present(written, options.overwrite)
    statistics = Statistics(seq_length=options.seq_length, kind=PAIRS if options.pairs else "texts")
    workers = options.workers or os.cpu_count() or 1
    identity = fingerprint(tokenizer)
    encoder = RecordEncoder(tokenizer, options.seq_length, options.template, options.infill, options.pairs)
    if options.template == OWN:
        template_of(tokenizer)
    if options.infill.rate > 0:
        InfillRearranger(tokenizer, options.infill)  # fail early if the tokenizer has no fill-in-the-middle tokens
    records = _read(files, options.reading, statistics.remarks)
    with encoded(records, encoder, workers) as results:
        progress = tqdm(results, desc="preprocess", unit=" records", disable=None if options.show_progress else True)
        examples = _accepted(progress, statistics, options.skip_bad)
        lay_out = pair_rows if options.pairs else pack_first_fit if options.packing else pad_each
        rows = _counted(lay_out(examples, options.seq_length, tokenizer.pad_id), statistics)
        first = next(rows, None)
        if first is None:
            raise _nothing_usable(options, statistics)
        info = write_dataset(
            chain([first], rows),
            options.output_file,
            options.seq_length,
            tokenizer.vocab_size,
            options.file_partition,
            statistics.as_dict,
            # If every token is learned no prompt was used: the records are documents.
            lambda: format_with(
                options.template if statistics.answer_tokens < statistics.tokens else None, tokenizer, identity
            ),
        )
    rejects_path(options.output_file).unlink(missing_ok=True)
    if statistics.rejects:
        lines = [
            json.dumps(
                {"file": item.file, "index": item.index, "line": item.line, "reason": item.reason, "record": item.text},
                ensure_ascii=False,
            )
            for item in statistics.rejects
        ]
        write_text(rejects_path(options.output_file), "\n".join(lines) + "\n")
    return info, statistics


def rejects_path(output_file: Path) -> Path:
    """Path of the rejected records and their reasons, as JSONL."""
    return output_file.with_name(output_file.name + ".rejects.jsonl")


def output_files(output_file: Path, partitions: int) -> list[Path]:
    """All files that `preprocess` writes, and the first file of an earlier partitioned dataset."""
    parts = [output_file.with_name(name) for name in (output_file.name, *part_names(output_file.name, partitions))]
    parts.append(output_file.with_name(f"{output_file.name}0"))
    indices = [part.with_name(f"{part.name}.db") for part in parts]
    return [*dict.fromkeys([*parts, info_path(output_file), *indices, rejects_path(output_file)])]
