"""Record files on the command line: multiple files, globs, registry names, renamed columns."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from mindcoder.config.registry import PREFIX, DatasetEntry, find_registry, lookup, read_registry
from mindcoder.data.readers import FORMATS, Reading, parse_columns
from mindcoder.data.sources import Sources, resolve
from mindcoder.errors import UserError

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


def sources_of(arguments: argparse.Namespace) -> Sources:
    """The sources given by ``--input_glob`` (or similar) and the flags of `add_reading_flags`.

    Raises:
        UserError: an unknown name, or names that are read differently.
    """
    given = arguments.input_glob
    asked = Reading(parse_columns(arguments.columns), arguments.format, arguments.desirable_only)
    return resolve([given] if isinstance(given, str) else given, asked)


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
