"""YAML with a comment on every key: of joined recipes, and of the shipped files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from mindcoder.config.describe import BASE_TEXT, key_at
from mindcoder.config.recipe import BASE
from mindcoder.config.shipped import is_part
from mindcoder.config.source import KeyPath, YamlSource

KEY_LINE = re.compile(r"^(?P<code>\s*(?:- )?(?P<key>[\w./-]+):(?: [^#\n]*?)?)\s*(?:  #.*)?$")


def as_yaml(data: dict[str, Any], whole: dict[str, Any] | None = None) -> str:
    """``data`` as a YAML file with a comment on every key.

    Args:
        whole: the joined data that ``data`` is a part of, whose ``type`` keys select the family.
    """
    return "".join(f"{line}\n" for line in _lines(data, (), data if whole is None else whole, ""))


def comment_at(path: KeyPath, data: dict[str, Any]) -> str:
    """The comment of the key at ``path``; empty for keys that there are not and for items of lists."""
    if path == (BASE,):
        return BASE_TEXT
    key = key_at(path, data)
    return key.comment() if key is not None else ""


def with_comments(text: str, source: YamlSource, wholes: dict[str, dict[str, Any]]) -> str:
    """A shipped file with the comment of every key renewed; comments on lines of their own stay.

    Args:
        source: the file's own data and lines.
        wholes: joined data by name of the configuration; the key is empty for a file that is one configuration.
    """
    paths: dict[int, KeyPath] = {}
    for path, (_, number) in source.lines.items():
        if path and isinstance(path[-1], str):
            paths.setdefault(number, path)
    if any(name and not is_part(name) for name in wholes):
        return text  # a list of recipes, each little more than its bases
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        match, path = KEY_LINE.match(line), paths.get(number, ())
        if match is None or not path or match["key"] != path[-1]:
            lines.append(line)
            continue
        name, inside = ("", path) if "" in wholes else (str(path[0]), path[1:])
        comment = comment_at(inside, wholes[name]) if inside and not (name and inside == (BASE,)) else ""
        lines.append(f"{match['code']}  # {comment}" if comment else line)
    return "\n".join(lines) + "\n"


def scalar(value: Any) -> str:
    """A value, or a list of values, on one line."""
    if isinstance(value, bool):
        return str(value)  # as MindFormers' files write it
    if isinstance(value, dict) and not value:
        return "{}"
    return yaml.safe_dump([value], default_flow_style=True, width=float("inf"), allow_unicode=True)[1:-2]


def _lines(value: dict[str, Any], path: KeyPath, data: dict[str, Any], indent: str) -> Iterator[str]:
    for key, inner in value.items():
        here = (*path, key)
        comment = comment_at(here, data)
        tail = f"  # {comment}" if comment else ""
        name = scalar(key)
        if isinstance(inner, dict) and inner:
            yield f"{indent}{name}:{tail}"
            yield from _lines(inner, here, data, indent + "  ")
        elif isinstance(inner, list) and any(isinstance(item, dict) and item for item in inner):
            yield f"{indent}{name}:{tail}"
            for index, item in enumerate(inner):
                yield from _item(item, (*here, index), data, indent + "  ")
        else:
            yield f"{indent}{name}: {scalar(inner)}{tail}"


def _item(item: Any, path: KeyPath, data: dict[str, Any], indent: str) -> Iterator[str]:
    """One item of a list of sections."""
    if not isinstance(item, dict) or not item:
        yield f"{indent}- {scalar(item)}"
        return
    for number, line in enumerate(_lines(item, path, data, indent + "  ")):
        yield line if number else f"{indent}- {line[len(indent) + 2 :]}"
