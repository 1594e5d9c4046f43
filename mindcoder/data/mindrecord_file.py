"""Datasets on disk: MindRecord files and a description beside them that says whether they are complete."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mindcoder.backend.device import signals_held
from mindcoder.data.packing import COLUMNS, Row
from mindcoder.data.text_format import TextFormat, text_format_of
from mindcoder.errors import UserError
from mindcoder.files import (
    honour_umask,
    json_kind,
    put_in_place,
    read_json_object,
    require_space,
    staging_directory,
    write_text,
)

WRITE_BATCH = 256
DESCRIPTION = {
    "complete": bool, "seq_length": int, "rows": int, "vocab_size": int, "files": dict, "statistics": dict,
    "text_format": dict,
}  # fmt: skip
KINDS = {bool: "true or false", int: "a whole number", dict: "an object"}
PAIRS = "pairs"  # ``kind`` in the statistics of a dataset whose rows are preference pairs


@dataclass(frozen=True)
class DatasetInfo:
    """The description written as ``<output_file>.meta.json``.

    Attributes:
        complete: False while files are being put in place.
        seq_length: length of each column of a row.
        rows: total number of rows in all files.
        vocab_size: of the tokenizer that made the ids.
        files: file name -> bytes.
        statistics: counts of ``preprocess``.
        text_format: prompt template and tokenizer of the rows, in the form of `TextFormat.as_dict`; empty in older
            datasets.
    """

    complete: bool
    seq_length: int
    rows: int
    vocab_size: int
    files: dict[str, int]
    statistics: dict[str, Any] = field(default_factory=dict)
    text_format: dict[str, Any] = field(default_factory=dict)


def info_path(output_file: Path) -> Path:
    """Path of the description of ``output_file``."""
    return output_file.with_name(output_file.name + ".meta.json")


def part_names(name: str, partitions: int) -> list[str]:
    """File names of a dataset as MindSpore's FileWriter chooses them: ``name``, or ``name0`` … with equal width."""
    width = len(str(partitions - 1))
    return [name] if partitions == 1 else [f"{name}{number:0{width}}" for number in range(partitions)]


def write_dataset(
    rows: Iterable[Row],
    output_file: Path,
    seq_length: int,
    vocab_size: int,
    partitions: int = 1,
    statistics: Any = None,
    text_format: Callable[[], TextFormat] | None = None,
) -> DatasetInfo:
    """Write rows as MindRecord to temporary files, then rename them.

    Args:
        rows: the rows to write.
        output_file: ``x.mindrecord``; with ``partitions`` N > 1 the files are ``x.mindrecord0`` … as MindSpore
            names them.
        statistics: called for the final statistics after the last row.
        text_format: called in the same way for how texts became rows.

    Raises:
        NoSpaceError: the disk is full; an earlier dataset of that name is untouched.
    """
    with signals_held():
        from mindspore.mindrecord import FileWriter

    output_file.parent.mkdir(parents=True, exist_ok=True)
    with staging_directory(output_file) as staging:
        writer = FileWriter(str(staging / output_file.name), shard_num=partitions, overwrite=True)
        writer.add_schema({name: {"type": "int32", "shape": [-1]} for name in COLUMNS}, "MindCoder token rows")
        count, batch = 0, []
        for row in rows:
            batch.append(row.columns())
            count += 1
            if len(batch) == WRITE_BATCH:
                require_space(output_file, 2 * WRITE_BATCH * len(COLUMNS) * 4 * seq_length)
                writer.write_raw_data(batch)
                batch = []
        if count == 0:
            raise UserError("nothing to write: no usable record", output_file)
        if batch:
            writer.write_raw_data(batch)
        writer.commit()
        honour_umask(staging)
        staged = sorted(staging.iterdir())
        sizes = {path.name: path.stat().st_size for path in staged}
        counted, made = statistics() if statistics else {}, text_format().as_dict() if text_format else {}
        info = DatasetInfo(False, seq_length, count, vocab_size, sizes, counted, made)
        write_text(info_path(output_file), json.dumps(asdict(info), indent=2) + "\n")
        for path in staged:
            put_in_place(path, output_file.parent / path.name)
        info = replace(info, complete=True)
        write_text(info_path(output_file), json.dumps(asdict(info), indent=2, ensure_ascii=False) + "\n")
    return info


def find_dataset(location: str) -> tuple[list[str], DatasetInfo | None]:
    """The MindRecord files at ``location`` (a file or a folder) and their description, if there is one.

    Raises:
        UserError: nothing is there, or the dataset is incomplete.
    """
    path = Path(location)
    if path.is_dir():
        infos = sorted(path.glob("*.meta.json"))
        described = [item.with_name(item.name[: -len(".meta.json")]) for item in infos]
        if len(described) == 1:
            path = described[0]
        else:
            files = sorted(
                str(item)
                for item in path.iterdir()
                if ".mindrecord" in item.name and not item.name.endswith((".db", ".json"))
            )
            if not files:
                raise UserError("no MindRecord file in this folder", path)
            for item in described:
                _read_info(item)
            return files, None
    if info_path(path).is_file():
        info = _read_info(path)
        return [str(path.parent / name) for name in info.files if not name.endswith(".db")], info
    if not path.is_file():
        raise UserError(_missing(path), path)
    if not path.with_name(path.name + ".db").is_file():
        if path.suffix in (".json", ".jsonl", ".ndjson"):
            raise UserError("is a file of records, not a MindRecord: mindcoder preprocess makes one", path)
        raise UserError("is not a MindRecord file: its index (.db) is not beside it", path)
    return [str(path)], None


def _missing(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return f"is a link to {os.readlink(path)}, which does not exist"
    return "is not a regular file" if path.exists() else "no such MindRecord file or folder"


def dataset_format(location: str) -> TextFormat:
    """Text format of a dataset, as far as its description states it.

    Raises:
        UserError: as `find_dataset`, or the description is corrupt.
    """
    _, info = find_dataset(location)
    return text_format_of(info.text_format if info is not None else {}, location)


def _read_info(path: Path) -> DatasetInfo:
    description = info_path(path)
    info = _checked_info(read_json_object(description), description)
    if not info.complete:
        raise UserError("preprocessing was interrupted: run it again, with --overwrite", path)
    for name, size in info.files.items():
        part = path.parent / name
        if not part.is_file() or part.stat().st_size != size:
            found = f"{part.stat().st_size} bytes" if part.is_file() else "nothing"
            raise UserError(f"damaged dataset: expected {size} bytes, found {found}", part)
    return info


def _checked_info(data: dict[str, Any], file: Path) -> DatasetInfo:
    """A description with the keys and types of `DatasetInfo`.

    Raises:
        UserError: keys or types differ, or a file it names is missing.
    """
    for key, kind in DESCRIPTION.items():
        if key not in data or type(data[key]) is not kind:
            found = json_kind(data[key]) if key in data else "nothing"
            raise UserError(f"is damaged: {key}: expected {KINDS[kind]}, found {found}", file)
    unknown = [key for key in data if key not in DESCRIPTION]
    if unknown:
        raise UserError(f"is damaged: unknown key {unknown[0]!r}; known: {', '.join(DESCRIPTION)}", file)
    for key in ("seq_length", "rows", "vocab_size"):
        if not 0 < data[key] < 2**31:
            raise UserError(f"is damaged: {key} is {data[key]}", file)
    for name, size in data["files"].items():
        if not name or Path(name).name != name or type(size) is not int or size < 0:
            raise UserError(f"is damaged: files: expected names in this folder and bytes, found {name[:80]!r}", file)
    if not any(not name.endswith(".db") for name in data["files"]):
        raise UserError("is damaged: files: names no MindRecord file", file)
    return DatasetInfo(**data)
