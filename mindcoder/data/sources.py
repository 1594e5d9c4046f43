"""Record files by name: multiple files, globs, names of ``datasets/registry.yaml`` with their columns and layout."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mindcoder.config.registry import DatasetEntry, lookup
from mindcoder.data.readers import FORMATS, Reading, expand_glob, parse_columns
from mindcoder.errors import UserError

MINDRECORD = "mindrecord"


@dataclass(frozen=True)
class Sources:
    """Files and globs, and how to read their records."""

    patterns: tuple[str, ...]
    reading: Reading


def resolve(given: Sequence[str], asked: Reading) -> Sources:
    """Resolve registry names to paths, and how to read them all.

    Args:
        asked: options of the user, which override the registry.

    Raises:
        UserError: an unknown name, or names that are read differently.
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


def files_of(pattern: str) -> list[str]:
    """A MindRecord file or folder unchanged, the files of a glob one by one."""
    return [pattern] if os.path.lexists(pattern) else [str(file) for file in expand_glob(pattern)]
