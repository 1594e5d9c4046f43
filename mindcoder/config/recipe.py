"""Joins a recipe with its bases.

    base: [models/wizardcoder_15b, methods/lora, clusters/atlas_8x64gb]
    runner_config: {epochs: 5}

A base is the name of a shipped configuration or the path of a file, relative to the file that names it. Sections are
joined key by key, a later base wins over an earlier one and the recipe over all; lists and values are replaced whole.
A file without ``base`` is read as it is, so MindFormers' files are recipes too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindcoder.config.checks import check_repeated_datasets
from mindcoder.config.shipped import ENDINGS, Config, find_config, nearest_name, shipped
from mindcoder.config.source import KeyPath, YamlSource
from mindcoder.errors import UserError

BASE = "base"
MOST_FILES = 100  # read for one recipe; bases that repeat each other would multiply


def read_recipe(file: str | Path) -> YamlSource:
    """Read a file or a shipped configuration and all its bases.

    Raises:
        UserError: a file is missing or is not YAML; a base is unknown or circular. Names file and line.
    """
    return _Reader().read(find_config(file), ())


def read_bases(names: Sequence[str], shown: str) -> YamlSource:
    """Join bases that no file names; paths are relative to the working directory.

    Args:
        shown: what messages call the source of the names.

    Raises:
        UserError: as `read_recipe`.
    """
    return _Reader().join(YamlSource(shown, {BASE: list(names)}, {}), Config(Path(shown), given=shown), ())


class _Reader:
    """Reads files, joins them, and counts them."""

    def __init__(self) -> None:
        self.read_files = 0

    def read(self, config: Config, trail: tuple[Config, ...]) -> YamlSource:
        """The configuration joined with its bases.

        Args:
            trail: the configurations that led here.
        """
        self.read_files += 1
        own = config.read()
        if self.read_files > MOST_FILES:
            raise UserError(f"more than {MOST_FILES} files are joined", own.file)
        return self.join(own, config, trail)

    def join(self, own: YamlSource, config: Config, trail: tuple[Config, ...]) -> YamlSource:
        """What a configuration says, over its bases."""
        bases = _named(own, config)
        own.data.pop(BASE, None)
        check_repeated_datasets(own)
        if not bases:
            return own
        joined = YamlSource(own.file, {}, {}, files=[own.file])
        trail = (*trail, config)
        files: list[str] = []
        for name, found, location in bases:
            if any(_same(found, before) for before in trail):
                names = " → ".join(_title(item) for item in (*trail, found))
                raise UserError(f"base {name!r} is circular: {names}", *location)
            part = self.read(found, trail)
            _join(joined, part)
            files += [file for file in part.files if file not in files]
        _join(joined, own)
        joined.lines[()] = own.lines.get((), (own.file, 1))
        joined.files = [file for file in files if file != own.file] + [own.file]
        _repeat_datasets(joined)
        return joined


def _named(source: YamlSource, config: Config) -> list[tuple[str, Config, tuple[str, int | None]]]:
    """Each base of a file: as written, found, and where it is written."""
    given = source.data.get(BASE, [])
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise UserError(
            f"base: expected names such as [models/llama2_7b, methods/lora], found {str(given)[:60]!r}",
            *source.location((BASE,)),
        )
    found = []
    for index, name in enumerate(names):
        location = source.location((BASE, index) if isinstance(given, list) else (BASE,))
        found.append((name, _find(name, config, location), location))
    return found


def _find(name: str, config: Config, location: tuple[str, int | None]) -> Config:
    """The base: a path if it ends or begins like one, else a shipped name."""
    folder = config.file.parent
    if not name.endswith(ENDINGS) and not name.startswith((".", "/")):
        if name in shipped():
            return shipped()[name]
        near = next((name + ending for ending in ENDINGS if (folder / (name + ending)).is_file()), None)
        hint = f"; a file is named with its ending: {near}" if near else nearest_name(name)
        raise UserError(f"base: no shipped configuration {name!r}{hint}", *location)
    path = folder / name
    if not path.is_file():
        raise UserError(f"base: no such file as {os.path.normpath(path)}", *location)
    return Config(path, given=os.path.normpath(Path(config.shown).parent / name))


def _same(one: Config, other: Config) -> bool:
    return one.entry == other.entry and one.file.resolve() == other.file.resolve()


def _title(config: Config) -> str:
    return config.entry or config.file.name


def _join(below: YamlSource, above: YamlSource) -> None:
    """Put the keys of ``above`` over those of ``below``, with their lines."""
    replaced: set[KeyPath] = set()
    _join_sections(below.data, above.data, (), replaced)
    kept = {
        path: location
        for path, location in below.lines.items()
        if not any(path[:end] in replaced for end in range(1, len(path) + 1))
    }
    below.lines = kept | above.lines


def _join_sections(below: dict[str, Any], above: dict[str, Any], path: KeyPath, replaced: set[KeyPath]) -> None:
    """Join in place; adds to ``replaced`` the path of everything in ``below`` that gave way."""
    for key, value in above.items():
        old = below.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            _join_sections(old, value, (*path, key), replaced)
        else:
            below[key] = value
            replaced.add((*path, key))


def _repeat_datasets(source: YamlSource) -> None:
    """Keep a ``train_dataset_task`` of MindFormers' files what it is in every one of them: a copy of the dataset."""
    for section in ("train_dataset", "eval_dataset"):
        task = source.data.get(f"{section}_task")
        if isinstance(task, dict) and "dataset_config" in task:
            task["dataset_config"] = source.data.get(section)
