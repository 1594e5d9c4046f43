"""YAML as plain data with the line number of every key, and command-line overrides."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mindcoder.errors import UserError, single_line
from mindcoder.files import read_text

KeyPath = tuple[str | int, ...]
Location = tuple[str, int]  # file and 1-based line


@dataclass
class YamlSource:
    """Data of a YAML file, joined with its bases, and the location of each key.

    Attributes:
        file: path as the user gave it.
        data: nested dicts and lists.
        lines: file and line of the value at each path; the path of ``a: [{b: 1}]`` is ``("a", 0, "b")``.
        overridden: paths set by ``--set`` or another flag, with the text of that flag.
        files: the file and its bases, in the order in which they were joined: a later one wins.
    """

    file: str
    data: dict[str, Any]
    lines: dict[KeyPath, Location]
    overridden: dict[KeyPath, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.files = self.files or [self.file]

    def location(self, path: KeyPath) -> tuple[str, int | None]:
        """File (or flag) and line of ``path``, or of its nearest ancestor that has one."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.overridden:
                return self.overridden[path[:end]], None
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return self.file, None

    def order(self, path: KeyPath) -> tuple[int, int]:
        """Sort key of a path: the file itself before its bases, then by line; flags come first."""
        file, line = self.location(path)
        return (len(self.files) - self.files.index(file) if file in self.files else 0), line or 0


SIZE_LIMIT = 1 << 18  # bytes of a file; MindFormers' longest has 10 KB
DEPTH_LIMIT = 32  # nesting depth; MindFormers' deepest file has 6
VALUE_LIMIT = 20_000  # keys and items, with those behind aliases counted at each use


PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class _BoundedLoader(yaml.SafeLoader):
    """SafeLoader that reads ``1e-5`` and ``2.e-5`` as numbers (YAML 1.2), within the bounds above."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.depth = self.nodes = self.values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As in PyYAML, which recurses into children; counts depth and number of values."""
        event = self.peek_event()
        self.depth, self.nodes = self.depth + 1, self.nodes + 1
        if self.nodes > VALUE_LIMIT:
            raise yaml.MarkedYAMLError(problem=f"more than {VALUE_LIMIT} values", problem_mark=event.start_mark)
        if self.depth > DEPTH_LIMIT:
            raise yaml.MarkedYAMLError(problem=f"nested more than {DEPTH_LIMIT} deep", problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """As in PyYAML (``<<: *defaults``), which repeats the merged content."""
        super().flatten_mapping(node)
        if len(node.value) > VALUE_LIMIT:
            raise yaml.MarkedYAMLError(problem=f"more than {VALUE_LIMIT} keys", problem_mark=node.start_mark)

    def count(self, node: yaml.Node, depth: int) -> None:
        """Count one more value; an alias may repeat a section a thousand times, or contain itself."""
        self.values += 1
        if self.values > VALUE_LIMIT or depth > DEPTH_LIMIT:
            problem = f"more than {VALUE_LIMIT} values" if depth <= DEPTH_LIMIT else f"more than {DEPTH_LIMIT} deep"
            raise yaml.MarkedYAMLError(problem=f"{problem}, aliases counted", problem_mark=node.start_mark)


_BoundedLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)$"), list("-+0123456789.")
)


def _refuse_repeated_keys(node: yaml.MappingNode, file: str) -> None:
    first_lines: dict[str, int] = {}
    for key_node, _ in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise UserError("expected a scalar key, found a list or a mapping", file, line)
        if key_node.value in first_lines:
            raise UserError(
                f"key {key_node.value!r} is given twice, first on line {first_lines[key_node.value]}", file, line
            )
        first_lines[key_node.value] = line


def _construct(
    loader: _BoundedLoader, node: yaml.Node, path: KeyPath, lines: dict[KeyPath, Location], file: str
) -> Any:
    """Build plain data from ``node``, recording the line of each key in ``lines``."""
    loader.count(node, len(path))
    lines.setdefault(path, (file, node.start_mark.line + 1))
    if not isinstance(node, yaml.ScalarNode) and node.tag not in PLAIN_TAGS:
        raise UserError(f"is not valid YAML: the tag {node.tag!r} is not known", file, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        _refuse_repeated_keys(node, file)
        loader.flatten_mapping(node)
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(_scalar(loader, key_node, file))
            lines[(*path, key)] = (file, key_node.start_mark.line + 1)
            mapping[key] = _construct(loader, value_node, (*path, key), lines, file)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, item, (*path, index), lines, file) for index, item in enumerate(node.value)]
    return _scalar(loader, node, file)


def _scalar(loader: _BoundedLoader, node: yaml.Node, file: str) -> Any:
    """The value of a scalar node.

    Raises:
        UserError: it looks like a number or a date but is not.
    """
    try:
        return loader.construct_object(node, deep=True)
    except (ValueError, OverflowError) as error:
        kind = node.tag.rsplit(":", 1)[-1]
        reason = "it is too long" if "integer string conversion" in str(error) else str(error)
        raise UserError(f"a value looks like {kind} but is invalid: {reason}", file, node.start_mark.line + 1) from None


def _parse(text: str, file: str) -> tuple[Any, dict[KeyPath, Location]]:
    """Plain data and the line of every key.

    Raises:
        UserError: not YAML, or a bound is exceeded.
    """
    lines: dict[KeyPath, Location] = {}
    try:
        loader = _BoundedLoader(text)
        try:
            node = loader.get_single_node()
            return ({} if node is None else _construct(loader, node, (), lines, file)), lines
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise UserError(f"is not valid YAML: {error.problem}", file, mark.line + 1 if mark else None) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"is not valid YAML: character {error.character:#x} is not allowed", file, line) from None
    except yaml.YAMLError as error:
        raise UserError(f"is not valid YAML: {single_line(str(error), 200)}", file) from None
    except RecursionError:
        raise UserError(f"is not valid YAML: nested more than {DEPTH_LIMIT} deep", file) from None


def yaml_text(file: str | Path) -> str:
    """The text of a YAML file.

    Raises:
        UserError: it is missing, is not UTF-8, or is longer than YAML files are.
    """
    return read_text(file, SIZE_LIMIT)


def read_yaml(file: str | Path, shown: str = "") -> YamlSource:
    """Read a YAML file; its ``base`` is left as it is.

    Args:
        shown: the file's name in messages; default: its path.

    Raises:
        UserError: the file is missing, is not YAML, exceeds a bound, or is not a mapping at its top level.
    """
    if not Path(file).exists():
        raise UserError("no such configuration file", shown or file)
    return parse_yaml(yaml_text(file), shown or str(file))


def parse_yaml(text: str, shown: str) -> YamlSource:
    """Parse the text of a YAML file.

    Raises:
        UserError: as `read_yaml`.
    """
    data, lines = _parse(text, shown)
    if not isinstance(data, dict):
        raise UserError(f"expected keys and values at the top, found {type(data).__name__}", shown, 1)
    return YamlSource(shown, data, lines)


def apply_override(source: YamlSource, key_path: str, value: Any, flag: str) -> None:
    """Set ``a.b.0.c`` to ``value`` in place; ``flag`` is what the user typed, for error messages.

    Raises:
        UserError: the path goes through something that is not a mapping or list.
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
    replaced = tuple(parts)
    for path in [path for path in source.lines if path[: len(replaced)] == replaced]:
        del source.lines[path]  # the old line no longer describes this value
    source.overridden[replaced] = flag


def parse_set(text: str) -> tuple[str, Any]:
    """Split ``a.b=value``; the value is parsed as YAML, so ``2``, ``1e-5``, ``true`` and ``[1, 2]`` keep their types.

    Raises:
        UserError: there is no ``=``, or the value is not YAML.
    """
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise UserError(f"expected key.path=value, found {text!r}", "--set")
    try:
        return key.strip(), _parse(value, "--set")[0] if value.strip() else None
    except UserError as error:
        reason = str(error).partition("is not valid YAML: ")[2] or str(error)
        raise UserError(f"the value of {text[:80]!r} is not valid YAML: {reason}", "--set") from None
