"""The configurations that come with the package, by name: ``wizardcoder/tiny_finetune``, ``models/llama2_7b``.

They are in the folder ``configs``, which is in the wheel; in a checkout it is beside the package. A file is one
configuration, named by its path without the ending, or a collection: its top-level keys are names, with a slash, and
the values are the configurations.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import mindcoder
from mindcoder.config.source import YamlSource, parse_yaml, read_yaml, yaml_text
from mindcoder.errors import UserError

ENDINGS = (".yaml", ".yml")
FOLDER = "configs"
PARTS = ("models", "methods", "clusters")
ENTRY = re.compile(r"^([\w.-]+/[\w.-]+):", re.MULTILINE)  # of a collection; no key of a configuration has a slash


@dataclass(frozen=True)
class Config:
    """A configuration: a file, or an entry of a collection.

    Attributes:
        file: it, or the collection.
        entry: name in the collection; empty for a file.
        given: the file as the user wrote it; empty for a shipped one.
    """

    file: Path
    entry: str = ""
    given: str = ""

    @property
    def shown(self) -> str:
        """The file in messages: as given, else relative where it is below the working directory."""
        here = Path.cwd()
        return self.given or str(self.file.relative_to(here) if self.file.is_relative_to(here) else self.file)

    def read(self) -> YamlSource:
        """Its data and lines, ``base`` included.

        Raises:
            UserError: as `read_yaml`, or the entry is not a mapping.
        """
        if not self.entry:
            return read_yaml(self.file, self.shown)
        text = yaml_text(self.file)
        starts = {match[1]: match.start() for match in ENTRY.finditer(text)}
        start = starts[self.entry]
        end = min((other for other in starts.values() if other > start), default=len(text))
        before = "\n" * text.count("\n", 0, start)  # lines keep their numbers; the other entries are not parsed
        source = parse_yaml(before + text[start:end], self.shown)
        data = source.data[self.entry]
        if not isinstance(data, dict):
            raise UserError(f"{self.entry}: expected keys and values", *source.location((self.entry,)))
        lines = {path[1:]: line for path, line in source.lines.items() if path[:1] == (self.entry,)}
        return YamlSource(source.file, data, lines)


def shipped_folder() -> Path:
    """The folder ``configs``: in an installed package, or beside the package in a checkout."""
    package = Path(mindcoder.__file__).resolve().parent
    inside = package / FOLDER
    return inside if inside.is_dir() else package.parent / FOLDER


@cache
def shipped() -> dict[str, Config]:
    """Name -> configuration: recipes, then the parts that they are made of, each in the order of their names."""
    root = shipped_folder()
    found = {}
    for file in root.rglob("*.yaml"):
        entries = ENTRY.findall(yaml_text(file))
        for name in entries or [file.relative_to(root).with_suffix("").as_posix()]:
            found[name] = Config(file, name if entries else "")
    return dict(sorted(found.items(), key=lambda item: (is_part(item[0]), item[0])))


def is_part(name: str) -> bool:
    """Whether a shipped configuration is a part of recipes: a model, a method or a cluster."""
    return name.split("/")[0] in PARTS


def find_config(given: str | Path) -> Config:
    """The configuration that ``--config`` names: a file, or a shipped one.

    ``configs/llama/tiny_lora.yaml`` is the shipped ``llama/tiny_lora`` where there is no such file.

    Raises:
        UserError: there is neither.
    """
    text = str(given)
    path = Path(text)
    if path.exists() and not (path.is_dir() and text in shipped()):
        return Config(path, given=text)
    name = _as_name(path)
    if name in shipped():
        return shipped()[name]
    raise UserError(f"no such configuration file{nearest_name(name)}", text)


def nearest_name(name: str) -> str:
    """``; did you mean 'x'?`` with the closest shipped name, or how to list them."""
    near = difflib.get_close_matches(name, shipped(), 1, cutoff=0.75)
    return f"; did you mean {near[0]!r}?" if near else "; `mindcoder configs ls` lists the shipped ones"


def _as_name(path: Path) -> str:
    """The shipped name of a path: below the folder ``configs``, wherever that is, without the ending."""
    root = shipped_folder()
    whole = Path(os.path.abspath(path))
    if whole.is_relative_to(root):
        path = whole.relative_to(root)
    elif path.parts[:1] == (FOLDER,):
        path = Path(*path.parts[1:])
    return path.with_suffix("").as_posix() if path.suffix in ENDINGS else path.as_posix()
