"""YAML text as plain data plus the line of every key, with command-line overrides laid over it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mindcoder.errors import UserError

KeyPath = tuple[str | int, ...]


@dataclass
class YamlSource:
    """Data of a YAML file and where each key stands.

    Attributes:
        file: path as the user gave it.
        data: nested dicts and lists.
        lines: 1-based line of the value at each path; the path of ``a: [{b: 1}]`` is ``("a", 0, "b")``.
        overridden: paths that a ``--set`` or another flag gave, with the text of that flag.
    """

    file: str
    data: dict[str, Any]
    lines: dict[KeyPath, int]
    overridden: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> tuple[str, int | None]:
        """File (or flag) and line of ``path`` or of its nearest ancestor that has one."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.overridden:
                return self.overridden[path[:end]], None
            if path[:end] in self.lines:
                return self.file, self.lines[path[:end]]
        return self.file, None


class _ScientificLoader(yaml.SafeLoader):
    """SafeLoader that reads ``1e-5`` and ``2.e-5`` as numbers (YAML 1.2)."""


_ScientificLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)$"), list("-+0123456789.")
)


def _refuse_repeated_keys(node: yaml.MappingNode, file: str) -> None:
    first_lines: dict[str, int] = {}
    for key_node, _ in node.value:
        line = key_node.start_mark.line + 1
        if key_node.value in first_lines:
            raise UserError(
                f"key {key_node.value!r} is given twice, first on line {first_lines[key_node.value]}", file, line
            )
        first_lines[key_node.value] = line


def _construct(loader: _ScientificLoader, node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], file: str) -> Any:
    """Build plain data from ``node``, noting each key's line in ``lines``."""
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        _refuse_repeated_keys(node, file)
        loader.flatten_mapping(node)
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(loader.construct_object(key_node))
            lines[(*path, key)] = key_node.start_mark.line + 1
            mapping[key] = _construct(loader, value_node, (*path, key), lines, file)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, item, (*path, index), lines, file) for index, item in enumerate(node.value)]
    return loader.construct_object(node, deep=True)


def read_yaml(file: str | Path) -> YamlSource:
    """Read a YAML file.

    Raises:
        UserError: the file is missing, no YAML, or no mapping at its top.
    """
    path = Path(file)
    if not path.is_file():
        raise UserError("no such configuration file", file)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"is not UTF-8 text: {error.reason} at byte {error.start}", file) from None
    loader = _ScientificLoader(text)
    lines: dict[KeyPath, int] = {}
    try:
        node = loader.get_single_node()
        data = {} if node is None else _construct(loader, node, (), lines, str(file))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise UserError(f"is not valid YAML: {error.problem}", file, mark.line + 1 if mark else None) from None
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        raise UserError(f"expected keys and values at the top, found {type(data).__name__}", file, 1)
    return YamlSource(str(file), data, lines)


def apply_override(source: YamlSource, key_path: str, value: Any, flag: str) -> None:
    """Set ``a.b.0.c`` to ``value`` in place; ``flag`` is how the user gave it, for error messages.

    Raises:
        UserError: the path runs through something that is no mapping or list.
    """
    parts: list[str | int] = []
    target: Any = source.data
    names = key_path.split(".")
    for index, name in enumerate(names):
        last = index == len(names) - 1
        key: str | int = name
        if isinstance(target, list):
            if not name.isdigit() or int(name) >= len(target):
                raise UserError(
                    f"{'.'.join(names[:index])} is a list of {len(target)}: expected an index, found {name!r}", flag
                )
            key = int(name)
        elif not isinstance(target, dict):
            raise UserError(f"{'.'.join(names[:index])} is a value, not a section", flag)
        parts.append(key)
        if last:
            target[key] = value
        else:
            if isinstance(target, dict) and not isinstance(target.get(key), (dict, list)):
                target[key] = {}
            target = target[key]
    source.overridden[tuple(parts)] = flag


def parse_set(text: str) -> tuple[str, Any]:
    """Split ``a.b=value``; the value is read as YAML, so ``2``, ``1e-5``, ``true`` and ``[1, 2]`` keep their types.

    Raises:
        UserError: there is no ``=`` or the value is no YAML.
    """
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise UserError(f"expected key.path=value, found {text!r}", "--set")
    try:
        return key.strip(), yaml.load(value, Loader=_ScientificLoader)
    except yaml.YAMLError:
        raise UserError(f"the value of {text!r} is not valid YAML", "--set") from None
