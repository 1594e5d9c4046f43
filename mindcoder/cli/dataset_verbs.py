"""data ls, stats, show, dedup and decontaminate."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mindcoder.cli.arguments import positive
from mindcoder.cli.data_verbs import share
from mindcoder.cli.logs import start_logging
from mindcoder.cli.sources import INPUT_HELP, Sources, add_reading_flags, registry_lines, sources_of
from mindcoder.data.readers import AnyRecord, BadRecord, expand_glob, read_records
from mindcoder.errors import UserError
from mindcoder.evaluate.problems import TASKS, read_problems
from mindcoder.files import write_text
from mindcoder.outputs import file_name, refuse_as_output, refuse_as_page, refuse_present

LISTED = 20


def add_dataset_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of data."""
    verbs = parser.add_subparsers(dest="data_verb", required=True, metavar="{ls,stats,show,dedup,decontaminate}")
    ls = verbs.add_parser("ls", help="registered datasets: format, license, source")
    ls.add_argument(
        "names", nargs="*", metavar="NAME", help="show all details of this dataset; default: one line per dataset"
    )
    stats = verbs.add_parser("stats", help="statistics of a MindRecord dataset")
    show = verbs.add_parser("show", help="samples as the model sees them, with masked text dimmed")
    for verb in (stats, show):
        verb.add_argument("dataset", metavar="DATASET", help="MindRecord file or folder")
    show.add_argument(
        "--vocab_file", required=True, metavar="FILE", help="vocabulary of the tokenizer that encoded the dataset"
    )
    show.add_argument("--merge_file", metavar="FILE", help="merges.txt")
    show.add_argument("--count", type=positive, default=3, metavar="N", help="rows; default: 3")
    show.add_argument("--rows", metavar="N,N,..", help="row numbers, as in health.jsonl")
    show.add_argument(
        "--html", metavar="FILE", help="write an HTML page to this .html file; default: print to the terminal"
    )
    dedup = verbs.add_parser("dedup", help="drop near-duplicates of earlier records")
    dedup.add_argument("--threshold", type=share, default=0.8, metavar="J", help="Jaccard similarity; default: 0.8")
    clean = verbs.add_parser("decontaminate", help="drop records that share 13 consecutive words with a problem")
    clean.add_argument(
        "--against", required=True, action="append", metavar="TASK=FILE", help=f"TASK: {', '.join(TASKS)}; repeatable"
    )
    for verb in (dedup, clean):
        verb.add_argument("input_glob", nargs="+", metavar="GLOB", help=INPUT_HELP)
        verb.add_argument("output_file", metavar="OUT", help="JSONL to write")
        verb.add_argument("--overwrite", action="store_true", help="replace an existing OUT")
        add_reading_flags(verb)
    for verb in (ls, stats, show, dedup, clean):
        verb.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def dataset_verb(arguments: argparse.Namespace) -> int:
    """Run one of its commands."""
    start_logging()
    if arguments.data_verb == "ls":
        print("\n".join(registry_lines(arguments.names)))
        return 0
    if arguments.data_verb in ("stats", "show"):
        from mindcoder.backend.device import quiet_environment

        quiet_environment()
        return _stats(arguments) if arguments.data_verb == "stats" else _show(arguments)
    return _filter(arguments)


def _stats(arguments: argparse.Namespace) -> int:
    from mindcoder.data.show import statistics

    print("\n".join(statistics(arguments.dataset)))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from mindcoder.data.show import documents, html_page, read_rows, spans, terminal_text
    from mindcoder.tokenizer import load_tokenizer

    if arguments.html:
        refuse_as_page(Path(arguments.html), [arguments.dataset, arguments.vocab_file, arguments.merge_file])
    tokenizer = load_tokenizer(arguments.vocab_file, arguments.merge_file)
    wanted = _rows(arguments.rows) if arguments.rows else range(arguments.count)
    samples = [
        spans(ids, labels, tokenizer)
        for number, row in enumerate(read_rows(arguments.dataset, max(wanted) + 1))
        if number in wanted
        for ids, labels in documents(row)
    ]
    if arguments.html:
        write_text(Path(arguments.html), html_page(arguments.dataset, samples))
        print(f"{len(samples)} documents in {arguments.html}")
        return 0
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for number, sample in enumerate(samples):
        print(f"--- document {number}")
        print(terminal_text(sample, colours))
    return 0


def _rows(text: str) -> set[int]:
    if not all(item.strip().isdigit() for item in text.split(",")):
        raise UserError(f"--rows: expected numbers such as 0,17, found {text!r}")
    return {int(item) for item in text.split(",")}


def _filter(arguments: argparse.Namespace) -> int:
    from mindcoder.data.overlap import Finding, contaminated, near_duplicates
    from mindcoder.data.preprocess import reasons

    sources, output = sources_of(arguments), file_name(arguments.output_file)
    against = [] if arguments.data_verb == "dedup" else [given.partition("=")[2] for given in arguments.against]
    refuse_as_output([output], [*expand_glob(sources.patterns), *against])
    if len(arguments.input_glob) > 1 and output.exists():
        raise UserError("exists; the last of several files is the output, so give a new name", output)
    refuse_present([output], arguments.overwrite)
    unusable: list[BadRecord] = []
    records = _records(sources, unusable)
    if arguments.data_verb == "dedup":
        results = near_duplicates(records, arguments.threshold)
    else:
        results = contaminated(records, [item for given in arguments.against for item in _problems(given)])
    lines, findings = [], []
    for result in results:
        if isinstance(result, Finding):
            findings.append(result)
        else:
            kept = result.fields() if result.raw is None else result.raw
            lines.append(json.dumps(kept, ensure_ascii=False) + "\n")
    if not lines:
        repeats = [f"{len(findings)} repeat something, such as {findings[0].of}"] if findings else []
        told = "; ".join([*repeats, *([reasons(unusable)] if unusable else [])])
        why = f"all records are left out: {told}" if told else "holds no record"
        raise UserError(why, ", ".join(arguments.input_glob))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, "".join(lines))
    for finding in findings[:LISTED]:
        print(f"{finding.record.file} record {finding.record.index} repeats {finding.of}")
    if len(findings) > LISTED:
        print(f"... and {len(findings) - LISTED} more")
    print(f"{arguments.output_file}: {len(lines)} records kept, {len(findings)} left out")
    if unusable:
        print(f"also left out, nothing to learn: {reasons(unusable)}")
    return 0


def _records(sources: Sources, unusable: list[BadRecord]) -> Iterator[AnyRecord]:
    """Records of all files; unusable ones (such as an empty answer) go to ``unusable``."""
    for file in expand_glob(sources.patterns):
        for record in read_records(file, replace(sources.reading, keep_raw=True)):
            if not isinstance(record, BadRecord):
                yield record
            elif record.broken:
                raise record.error()
            else:
                unusable.append(record)


def _problems(given: str) -> list[tuple[str, str]]:
    task, _, file = given.partition("=")
    if task not in TASKS or not file:
        raise UserError(f"--against: expected TASK=FILE, TASK one of {', '.join(TASKS)}; found {given!r}")
    found = read_problems(Path(file), task, "all")  # type: ignore[arg-type]
    return [(f"{task} {item.task_id}", text) for item in found for text in (item.text, item.solution)]
