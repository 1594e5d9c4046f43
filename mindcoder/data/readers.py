"""Instruction records from JSON and JSONL files."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mindcoder.errors import UserError


@dataclass(frozen=True)
class Record:
    """One instruction pair and where it stands: ``file``, 0-based ``index`` and, in JSONL, 1-based ``line``."""

    file: str
    index: int
    line: int | None
    instruction: str
    input: str
    output: str


@dataclass(frozen=True)
class BadRecord:
    """A record that cannot be used, why, and its text.

    ``broken`` ones stop a run that was not told to skip them. The others are well formed but teach nothing (an empty
    answer, a prompt that leaves no room for one); they are counted and listed.
    """

    file: str
    index: int
    line: int | None
    reason: str
    text: str
    broken: bool = True

    def error(self) -> UserError:
        """The one-line message for it."""
        return UserError(f"record {self.index}: {self.reason}", self.file, self.line)


def expand_glob(pattern: str) -> list[Path]:
    """Files of a glob, sorted.

    Raises:
        UserError: none match.
    """
    files = sorted(Path(name) for name in glob.glob(pattern, recursive=True) if Path(name).is_file())
    if not files:
        raise UserError("no such file", pattern)
    return files


def read_records(file: Path) -> Iterator[Record | BadRecord]:
    """Records of one file; JSON array and JSONL are told apart by the first character that is no white space.

    Raises:
        UserError: the file is no UTF-8, or a JSON array that does not parse (nothing after the error can be read).
    """
    with open(file, encoding="utf-8-sig") as stream:
        try:
            first = stream.read(1)
            while first and first.isspace():
                first = stream.read(1)
            stream.seek(0)
            yield from _read_array(file, stream.read()) if first == "[" else _read_lines(file, stream)
        except UnicodeDecodeError as error:
            raise UserError(f"is not UTF-8 text: {error.reason} at byte {error.start}", file) from None


def _read_array(file: Path, text: str) -> Iterator[Record | BadRecord]:
    try:
        items = json.loads(text.lstrip("\ufeff"))
    except json.JSONDecodeError as error:
        raise UserError(f"bad JSON: {error.msg} at column {error.colno}", file, error.lineno) from None
    for index, item in enumerate(items):
        yield _check(file, index, None, item)


def _read_lines(file: Path, stream: Any) -> Iterator[Record | BadRecord]:
    index = 0
    for number, line in enumerate(stream, 1):
        line = line.lstrip("\ufeff").rstrip("\r\n")
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except json.JSONDecodeError as error:
            yield BadRecord(str(file), index, number, f"bad JSON: {error.msg} at column {error.colno}", line)
        else:
            yield _check(file, index, number, item)
        index += 1


def _check(file: Path, index: int, line: int | None, item: Any) -> Record | BadRecord:
    def bad(reason: str) -> BadRecord:
        return BadRecord(str(file), index, line, reason, json.dumps(item, ensure_ascii=False)[:2000])

    if not isinstance(item, dict):
        return bad(f"expected an object, found {type(item).__name__}")
    if "instances" in item and "output" not in item:  # Self-Instruct's seed tasks
        instances = item["instances"]
        if not (isinstance(instances, list) and instances and isinstance(instances[0], dict)):
            return bad("instances: expected a list of objects")
        item = {**item, **instances[0]}
    for key in ("instruction", "output"):
        if not isinstance(item.get(key), str):
            found = "nothing" if key not in item else type(item[key]).__name__
            return bad(f"{key}: expected a text, found {found}")
        if not item[key].strip():
            return replace(bad(f"{key} is empty"), broken=False)
    context = item.get("input") or ""
    if not isinstance(context, str):
        return bad(f"input: expected a text, found {type(context).__name__}")
    return Record(str(file), index, line, item["instruction"], context, item["output"])
