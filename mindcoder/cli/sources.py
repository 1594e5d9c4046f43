"""Record files on the command line: multiple files, globs, registry names, renamed columns."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mindcoder.config.registry import PREFIX, DatasetEntry, find_registry, lookup, read_registry
from mindcoder.config.schema import RunConfig
from mindcoder.data.readers import FORMATS, Reading, expand_glob, parse_columns
from mindcoder.errors import UserError

MINDRECORD = "mindrecord"
INPUT_HELP = "JSON, JSONL or code files: paths, quoted globs, or names of datasets/registry.yaml (data ls)"


def columns(text: str) -> str:
    """Validate ``instruction=q,output=a``.

    Raises:
        ArgumentTypeError: not pairs, or a field that no layout has.
    """
    try:
        parse_columns(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def add_reading_flags(parser: argparse._ActionsContainer) -> None:
    """Add the flags for reading records whose fields do not identify their layout."""
    parser.add_argument(
        "--columns",
        type=columns,
        default="",
        metavar="FIELD=COLUMN,..",
        help="the file's names for fields, such as instruction=q,output=a",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="",
        metavar="NAME",
        help=f"layout of the records ({', '.join(FORMATS)}); default: by the fields of each",
    )
    parser.add_argument(
        "--desirable_only",
        action="store_true",
        help="of KTO records, learn the answers marked true and drop the others",
    )


@dataclass(frozen=True)
class Sources:
    """Files and globs, and how to read their records."""

    patterns: tuple[str, ...]
    reading: Reading


def sources_of(arguments: argparse.Namespace) -> Sources:
    """The sources given by ``--input_glob`` (or similar) and the flags of `add_reading_flags`.

    Raises:
        UserError: an unknown name, or names that are read differently.
    """
    given = arguments.input_glob
    asked = Reading(parse_columns(arguments.columns), arguments.format, arguments.desirable_only)
    return resolve([given] if isinstance(given, str) else given, asked)


def resolve(given: Sequence[str], asked: Reading) -> Sources:
    """Resolve registry names to paths, and how to read them all.

    Args:
        asked: options from flags, which override the registry.

    Raises:
        UserError: as `sources_of`.
    """
    paths, readings = [], []
    for item in given:
        entry = lookup(item)
        paths.append(item if entry is None else entry.require_path())
        readings.append(asked if entry is None else _reading(entry, asked))
    if any(reading != readings[0] for reading in readings):
        raise UserError("these are read differently (format, columns): give them one by one", ", ".join(given))
    return Sources(tuple(paths), readings[0])


def _reading(entry: DatasetEntry, asked: Reading) -> Reading:
    if entry.format not in ("", MINDRECORD, *FORMATS):
        known = ", ".join((MINDRECORD, *FORMATS))
        raise UserError(f"{entry.name}.format: expected one of {known}, found {entry.format!r}", entry.file, entry.line)
    try:
        pairs = asked.columns or parse_columns(entry.columns)
    except ValueError as error:
        raise UserError(f"{entry.name}.columns: {error}", entry.file, entry.line) from None
    layout = asked.layout or (entry.format if entry.format != MINDRECORD else "")
    return replace(asked, columns=pairs, layout=layout)


def with_registered_data(config: RunConfig) -> RunConfig:
    """A run's configuration with registry names replaced by their datasets.

    Raises:
        UserError: an unknown name, or data in one section that are read differently.
    """
    from mindcoder.train.datasets import reading_of

    changed = {}
    for name in ("train_dataset", "eval_dataset"):
        section = getattr(config, name)
        loader = section.data_loader
        if not loader.locations or all(lookup(item) is None for item in loader.locations):
            continue
        found = resolve(loader.locations, reading_of(loader, name))
        update = {
            "dataset_dir": "",
            "dataset_files": [file for pattern in found.patterns for file in _files(pattern)],
            "columns": ",".join(f"{field}={column}" for field, column in found.reading.columns),
            "record_format": found.reading.layout,
        }
        changed[name] = section.model_copy(update={"data_loader": loader.model_copy(update=update)})
    return config.model_copy(update=changed) if changed else config


def _files(pattern: str) -> list[str]:
    """A MindRecord file or folder unchanged, the files of a glob one by one."""
    return [pattern] if os.path.lexists(pattern) else [str(file) for file in expand_glob(pattern)]


def registry_lines(names: Sequence[str] = ()) -> list[str]:
    """Output of `mindcoder data ls`: one line per dataset, or all details of the named ones.

    Raises:
        UserError: there is no registry, or no dataset of such a name.
    """
    file = find_registry()
    if file is None:
        raise UserError("no datasets/registry.yaml in this folder; MINDCODER_REGISTRY names one elsewhere")
    if names:
        entries = [lookup(PREFIX + name.removeprefix(PREFIX)) for name in names]
        return [line for entry in entries if entry is not None for line in _details(entry)]
    rows = [("NAME", "FORMAT", "LICENCE", "PATH")]
    for entry in read_registry(file).values():
        rows.append((entry.name, entry.format or "any", _brief(entry.licence), entry.path or "not here"))
    widths = [max(map(len, column)) for column in zip(*rows)][:-1]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]) for row in rows]
    return [*lines, f"{file}; data ls NAME says where to get one, and all of its licence"]


def _brief(licence: str) -> str:
    """The license without remarks."""
    return re.split(r"[;,(]", licence, maxsplit=1)[0].strip()


def _details(entry: DatasetEntry) -> list[str]:
    where = entry.path or "not here; get it from its source"
    return [
        f"{entry.name}  ({entry.format or 'format by its fields'})",
        f"    path     {where}",
        *([f"    columns  {entry.columns}"] if entry.columns else []),
        f"    licence  {entry.licence}",
        f"    source   {entry.source}",
    ]
