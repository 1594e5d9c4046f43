"""``datasets/registry.yaml``: named datasets with their format, license and source."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindcoder
from mindcoder.config.source import YamlSource, read_yaml
from mindcoder.errors import UserError

VARIABLE = "MINDCODER_REGISTRY"
PREFIX = "name:"
KEYS = ("path", "format", "columns", "licence", "source")


@dataclass(frozen=True)
class DatasetEntry:
    """One dataset.

    Attributes:
        name: key of the entry.
        path: file or glob; empty if it must be downloaded first.
        format: record layout, or ``mindrecord``; empty to detect it from the fields.
        columns: renamed fields, in the syntax of ``--columns``.
        licence: of the data.
        source: where to download it.
        file, line: of the entry.
    """

    name: str
    path: str
    format: str
    columns: str
    licence: str
    source: str
    file: str
    line: int | None

    def require_path(self) -> str:
        """The path of the data.

        Raises:
            UserError: the entry has no path.
        """
        if not self.path:
            raise UserError(
                f"{self.name} has no path: get it from {self.source} (licence: {self.licence}) and write here where "
                "it is",
                self.file,
                self.line,
            )
        return self.path


def find_registry() -> Path | None:
    """The registry file: named by the environment, else in the working directory, else in the checkout."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    folders = (Path(), Path(mindcoder.__file__).resolve().parent.parent)
    return next((file for folder in folders if (file := folder / "datasets" / "registry.yaml").is_file()), None)


def read_registry(file: Path) -> dict[str, DatasetEntry]:
    """Read all entries of a registry.

    Raises:
        UserError: an entry has an unknown key or a value that is not a string.
    """
    source = read_yaml(file)
    return {name: _entry(name, value, source, file.parent) for name, value in source.data.items()}


def lookup(given: str) -> DatasetEntry | None:
    """The dataset that ``name:x`` refers to, or ``x`` if there is no file of that name; None if it is not a name.

    Raises:
        UserError: ``name:x`` and there is no such dataset.
    """
    name = given.removeprefix(PREFIX)
    file = find_registry()
    if name == given and (file is None or not _may_be_a_name(given)):
        return None
    if file is None:
        raise UserError(f"no datasets/registry.yaml here that could have {name!r}; {VARIABLE} names one", given)
    entries = read_registry(file)
    if name in entries or name == given:
        return entries.get(name)
    near = difflib.get_close_matches(name, entries, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"available: {', '.join(entries)}"
    raise UserError(f"no dataset {name!r}; {hint}", file)


def _may_be_a_name(given: str) -> bool:
    return given.replace("-", "_").isidentifier() and not os.path.lexists(given)


def _entry(name: str, value: Any, source: YamlSource, folder: Path) -> DatasetEntry:
    if not isinstance(value, dict):
        raise UserError(f"{name}: expected the keys {', '.join(KEYS)}", *source.location((name,)))
    for key, text in value.items():
        location = source.location((name, key))
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1)
            raise UserError(f"{name}: unknown key {key!r}; known: {', '.join(near or KEYS)}", *location)
        if not isinstance(text, (str, type(None))):
            raise UserError(f"{name}.{key}: expected a text, found {str(text)[:40]!r}", *location)
    texts = {key: value.get(key) or "" for key in KEYS}
    for key in ("licence", "source"):
        if not texts[key]:
            raise UserError(
                f"{name}: {key} is missing; write 'unverified' where it is not known", *source.location((name,))
            )
    path = str(folder / texts["path"]) if texts["path"] else ""
    file, line = source.location((name,))
    return DatasetEntry(name, path, texts["format"], texts["columns"], texts["licence"], texts["source"], file, line)
