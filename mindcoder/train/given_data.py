"""Arguments of `mindcoder.finetune` as keys of the configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mindcoder.errors import UserError, shown, single_line
from mindcoder.files import write_text

Data = str | Path | Sequence[str | Path] | Sequence[Mapping[str, Any]]
SECTIONS = {"data": "train_dataset", "eval_data": "eval_dataset"}
PLACES = {"model": "load_checkpoint", "output_dir": "output_dir"}


def argument_keys(given: Mapping[str, Any], folder: Callable[[], Path]) -> dict[str, tuple[str, Any]]:
    """Key path -> (argument, value) of those that are given.

    Args:
        given: data, eval_data, model, tokenizer and output_dir; None where one is not given.
        folder: where the run keeps its data; asked for if records are given in place of a file.

    Raises:
        UserError: an argument is of another kind.
    """
    keys: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name in SECTIONS:
            found = {
                f"{SECTIONS[name]}.data_loader.{key}": item for key, item in loader_keys(name, value, folder).items()
            }
        elif not isinstance(value, str | Path):
            raise UserError(f"expected a path, found {shown(value)}", name)
        elif name == "tokenizer":
            others = ("merge_file", "merges_file", "tokenizer_file")  # of the configuration's own tokenizer
            found = {"processor.tokenizer.vocab_file": str(value)}
            found |= {f"processor.tokenizer.{key}": "" for key in others}
        else:
            found = {PLACES[name]: str(value)}
        keys |= {key: (name, item) for key, item in found.items()}
    return keys


def loader_keys(name: str, value: object, folder: Callable[[], Path]) -> dict[str, Any]:
    """Keys of a ``data_loader`` that reads ``value``.

    Args:
        name: of the argument, for messages.
        value: as `Data`.
        folder: as in `argument_keys`.

    Raises:
        UserError: it is neither files nor records.
    """
    if isinstance(value, str | Path):
        return {"dataset_dir": str(value), "dataset_files": None}
    items = list(value) if isinstance(value, Sequence) and not isinstance(value, bytes) else []
    if items and all(isinstance(item, str | Path) for item in items):
        return {"dataset_dir": "", "dataset_files": [str(item) for item in items]}
    if items and all(isinstance(item, Mapping) for item in items):
        return {"dataset_dir": str(_written(name, items, folder())), "dataset_files": None}
    raise UserError(f"expected a file, a list of files or a list of records, found {shown(value)}", name)


def _written(name: str, records: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Records as a JSON lines file, named by its content so that a resumed run finds the same one."""
    try:
        text = "".join(json.dumps(dict(record), ensure_ascii=False) + "\n" for record in records)
        content = text.encode()
    except (TypeError, ValueError) as error:
        raise UserError(f"expected records that are JSON: {single_line(str(error), 200)}", name) from None
    file = folder / f"records-{hashlib.sha256(content).hexdigest()[:12]}.jsonl"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_text(file, text)
    return file
