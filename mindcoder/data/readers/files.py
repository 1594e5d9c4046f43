"""Files of records: JSON arrays, JSONL, one object over several lines, and plain code."""

from __future__ import annotations

import codecs
import contextlib
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal

from mindcoder.data.readers.layouts import read_item, read_line
from mindcoder.data.readers.reading import Reading
from mindcoder.data.readers.record import AnyRecord, BadRecord
from mindcoder.errors import UserError
from mindcoder.files import parse_json, read_text

RECORDS = (".json", ".jsonl", ".ndjson")
EITHER = (".txt", "")  # records or text, depending on the first character
WHOLE_LIMIT = 2 << 30  # bytes of a file that is read whole
LINE_LIMIT = 64 << 20  # bytes of a record
OBJECT_LIMIT = 64 << 20  # bytes of a file that may be one object over several lines
TABLES = {".csv": "CSV", ".tsv": "TSV", ".xlsx": "Excel", ".xls": "Excel", ".arrow": "Arrow", ".feather": "Arrow"}
MAGIC = {
    b"\x1f\x8b": "gzip: unpack it first (gunzip -k)",
    b"PK\x03\x04": "a ZIP archive: unpack it first",
    b"\x28\xb5\x2f\xfd": "zstd: unpack it first",
    b"\xfd7zXZ": "xz: unpack it first",
    b"BZh": "bzip2: unpack it first",
    b"PAR1": "Parquet: turn it into JSONL first, such as with pandas.read_parquet(…).to_json(…, lines=True)",
    b"ARROW1": "Arrow: turn it into JSONL first",
    b"SQLite format 3": "an SQLite database, such as the index (.db) of a MindRecord file",
    codecs.BOM_UTF16_LE: "UTF-16, expected UTF-8",
    codecs.BOM_UTF16_BE: "UTF-16, expected UTF-8",
}
Form = Literal["empty", "text", "array", "object", "lines"]


def expand_glob(patterns: str | Path | Sequence[str | Path]) -> list[Path]:
    """Expand patterns to files without duplicates: pattern by pattern, sorted within one.

    Raises:
        UserError: a pattern matches nothing, or a folder.
    """
    found: dict[Path, None] = {}
    for pattern in [patterns] if isinstance(patterns, (str, Path)) else patterns:
        matches = (
            [Path(pattern)] if os.path.lexists(pattern) else sorted(map(Path, glob.glob(str(pattern), recursive=True)))
        )
        files = [path for path in matches if path.is_file()]
        if not files:
            raise UserError(_why_none(Path(pattern), matches), pattern)
        found.update(dict.fromkeys(files))
    return list(found)


def _why_none(pattern: Path, matches: list[Path]) -> str:
    if pattern.is_dir():
        return f"is a folder; name its files, such as '{pattern}/*.jsonl'"
    if pattern.is_symlink() and not pattern.exists():
        return f"is a link to {os.readlink(pattern)}, which does not exist"
    if matches:
        return "no such file" if not pattern.exists() else "is not a regular file"
    return "no such file"


def form_of(file: Path) -> Form:
    """Form of a file's records, by the first non-whitespace character.

    Raises:
        UserError: it cannot be read, or is not text.
    """
    if file.suffix.lower() in TABLES:
        raise UserError(f"is {TABLES[file.suffix.lower()]}, expected JSON or JSONL: one object per record", file)
    with _opened(file) as stream:
        head = stream.read(4096)
        for magic, kind in MAGIC.items():
            if head.startswith(magic):
                raise UserError(f"is {kind}", file)
        if not head:
            return "empty"
        if file.suffix.lower() not in (*RECORDS, *EITHER):
            return "text"
        stream.seek(len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0)
        first = b" "
        while first and first.isspace():
            first = stream.read(1)
        if not first:
            return "empty"
        if first == b"[":
            return "array"
        if first != b"{" and file.suffix.lower() in EITHER:
            return "text"
        stream.seek(-1, os.SEEK_CUR)
        line = stream.readline(LINE_LIMIT + 1)
        if first == b"{" and os.fstat(stream.fileno()).st_size <= OBJECT_LIMIT and not _is_json(line):
            return "object" if _is_json(read_text(file, OBJECT_LIMIT).encode()) else "lines"
    return "lines"


def read_records(file: Path, reading: Reading = Reading()) -> Iterator[AnyRecord | BadRecord]:
    """Records of one file.

    A file with a suffix of code (anything but .json, .jsonl, .ndjson, .txt or no suffix) is one `Document`,
    and so is a .txt file that does not begin with a bracket.

    Raises:
        UserError: the file is not UTF-8, is a JSON array that does not parse (nothing after the error can be read), or
            a field that ``reading`` names is in none of its records.
    """
    form = form_of(file)
    missing = {column for _, column in reading.columns} if form in ("array", "object", "lines") else set()
    names: tuple[str, ...] = ()  # of the first record
    if form in ("empty", "text"):
        if form == "text":
            yield read_item(file, 0, None, {"text": _plain_text(file)})
        return
    if form == "lines":
        for index, (number, line) in enumerate(read_lines(file)):
            yield (line if isinstance(line, BadRecord) else read_line(file, index, number, line, reading))
            missing = {name for name in missing if isinstance(line, BadRecord) or f'"{name}"' not in line}
    else:
        items = parse_json(read_text(file, WHOLE_LIMIT), file)
        for index, item in enumerate(items if isinstance(items, list) else [items]):
            yield read_item(file, index, None, item, reading)
            if isinstance(item, dict):
                missing -= item.keys()
                names = names or tuple(item)
    if missing:
        there = f"; fields: {', '.join(names[:20])}" if names else ""
        raise UserError(f"columns: no record has a field {', '.join(map(repr, sorted(missing)))}{there}", file)


def read_lines(file: Path) -> Iterator[tuple[int, str | BadRecord]]:
    """Number (from 1) and text of every non-blank line.

    Raises:
        UserError: a line is longer than `LINE_LIMIT`.
    """
    index = 0
    with _opened(file) as stream:
        number = 0
        while line := stream.readline(LINE_LIMIT + 1):
            number += 1
            if len(line) > LINE_LIMIT:
                raise UserError(
                    f"a line of more than {LINE_LIMIT >> 20} MiB: expected one record per line", file, number
                )
            if not line.strip(b" \t\r\n\xef\xbb\xbf"):
                continue
            yield number, decoded(file, index, number, line)
            index += 1


def decoded(file: Path, index: int, number: int, line: bytes) -> str | BadRecord:
    """A line as text, or a bad record if it is not valid text."""
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 text: {error.reason} (byte {error.start} of the line)"
        return BadRecord(str(file), index, number, reason, line[:200].decode("utf-8", "backslashreplace"))


def _plain_text(file: Path) -> str:
    text = read_text(file, WHOLE_LIMIT)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError("holds a NUL byte: this is not a text file", file, line)
    return text


def _is_json(line: bytes) -> bool:
    try:
        parse_json(line.decode("utf-8-sig"), None)
    except (UserError, UnicodeDecodeError):
        return False
    return True


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """Open a regular file; errors of the system, now or while reading, name the file."""
    try:
        if not file.is_file():
            raise UserError(
                _why_none(file, []) if not file.exists() or file.is_dir() else "is not a regular file", file
            )
        with open(file, "rb") as stream:
            yield stream
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read: {getattr(error, 'strerror', None) or error}", file) from None
