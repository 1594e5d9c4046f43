"""Loads a YAML file, validates it against the schema and runs the checks across fields."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from os.path import exists
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mindcoder.config.checks import check_together
from mindcoder.config.describe import flatten, section_at
from mindcoder.config.recipe import BASE, read_recipe
from mindcoder.config.schema import RunConfig
from mindcoder.config.source import KeyPath, YamlSource, apply_override, parse_set
from mindcoder.errors import UserError
from mindcoder.sections.section import Ignored, Only

MOST_NAMES = 24  # of keys listed in one error
BOUNDS = {
    "greater_than": "a number above",
    "greater_than_equal": "at least",
    "less_than": "a number below",
    "less_than_equal": "at most",
    "multiple_of": "a multiple of",
}


def load_config(
    file: str | Path | YamlSource, sets: Iterable[str] = (), flags: Mapping[str, tuple[str, Any]] | None = None
) -> tuple[RunConfig, YamlSource]:
    """Read, join with the bases, override and validate.

    Args:
        file: YAML file with MindFormers' keys, or the name of a shipped one; or a source that is read already.
        sets: ``key.path=value`` strings of ``--set``.
        flags: key path -> (flag as typed, value), for flags such as ``--load_checkpoint``.

    Returns:
        The configuration and its source, which knows the line of every key.

    Raises:
        UserError: with file, line, key, what was found and what is expected.
    """
    source = file if isinstance(file, YamlSource) else read_recipe(file)
    for text in sets:
        key, value = parse_set(text)
        if key.split(".")[0] == BASE:
            raise UserError("base is a key of files; --set changes keys of the joined file", f"--set {text}")
        apply_override(source, key, value, f"--set {text}")
    for key, (flag, value) in (flags or {}).items():
        apply_override(source, key, value, flag)
    try:
        config = RunConfig.model_validate(source.data)
        _refuse_null_bytes(source.data, (), source)
    except ValidationError as error:
        raise _explain(error, source) from None
    check_together(config, source)
    return _with_named_checkpoint(config), source


def _refuse_null_bytes(value: Any, path: KeyPath, source: YamlSource) -> None:
    """Refuse a text that no path and no name can be."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _refuse_null_bytes(item, (*path, key), source)
    elif isinstance(value, str) and "\0" in value:
        name = ".".join(map(str, path))
        raise UserError(f"{name}: found {_short(value)}, expected a text without null bytes", *source.location(path))


def _with_named_checkpoint(config: RunConfig) -> RunConfig:
    """Use ``checkpoint_name_or_path`` as ``load_checkpoint`` if the path exists, as MindFormers does."""
    path = config.model.settings.checkpoint_name_or_path
    if path and not config.load_checkpoint and exists(path):
        return config.model_copy(update={"load_checkpoint": path})
    return config


def _explain(error: ValidationError, source: YamlSource) -> UserError:
    """The first problem in file order as one line, with the number of further ones."""
    problems = error.errors(include_url=False)
    found = []
    for problem in problems:
        path = _data_path(problem["loc"], source.data)
        file, line = source.location(path)
        found.append((source.order(path), path, problem, file, line))
    # Every member of a union complains: the one that got furthest, or whose type matched, gives the best message.
    _, path, problem, file, line = min(
        found, key=lambda item: (item[0], -len(item[1]), str(item[2]["type"]).endswith("_type"))
    )
    name = ".".join(str(part) for part in path)
    if problem["type"] == "extra_forbidden":
        message = _unknown(path, source.data)
    elif problem["type"] == "union_tag_invalid":
        message = f"{name}.type: found {problem['ctx']['tag']!r}, expected one of {problem['ctx']['expected_tags']}"
        message += _nearest_value(problem["ctx"]["tag"], problem["ctx"]["expected_tags"])
        file, line = source.location((*path, "type"))
    else:
        message = f"{name}: found {_short(problem['input'])}, expected {_expectation(problem)}"
    distinct = {str(item[1]) for item in found}
    if len(distinct) > 1:
        message += f" (and {len(distinct) - 1} more)"
    return UserError(message, file, line)


def _data_path(location: tuple[str | int, ...], data: Any) -> KeyPath:
    """Pydantic's location without the names of union members, which are not keys of the file."""
    path: list[str | int] = []
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if isinstance(data, dict) and (part in data or last and not _is_type_name(part)):
            path.append(part)
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int):
            path.append(part)
            data = data[part]
    return tuple(path)


def _is_type_name(part: str | int) -> bool:
    return (
        isinstance(part, int)
        or part in {"int", "float", "str", "bool"}
        or "[" in part
        or "-" in part
        or part[:1].isupper()
    )


def _expectation(problem: Any) -> str:
    context = problem.get("ctx", {})
    kinds = {
        "int_type": "a whole number",
        "float_type": "a number",
        "string_type": "a text",
        "bool_type": "True or False",
        "list_type": "a list",
        "dict_type": "keys and values",
        "model_type": "keys and values",
        "model_attributes_type": "keys and values",
        "finite_number": "a finite number",
    }
    if problem["type"] in kinds:
        return kinds[problem["type"]]
    if problem["type"] == "literal_error":
        return f"one of {context['expected']}" + _nearest_value(problem["input"], context["expected"])
    if problem["type"] in BOUNDS:
        return f"{BOUNDS[problem['type']]} {_number(next(iter(context.values())))}"
    message = problem["msg"]
    if problem["type"] == "only":
        return message
    return message[0].lower() + message[1:]


def _nearest_value(given: Any, expected: str) -> str:
    """The one of ``'a', 'b' or 'c'`` that a misspelled value is closest to."""
    close = difflib.get_close_matches(str(given)[:80], re.findall("'([^']*)'", expected), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _number(value: float) -> str:
    """Format a number for people: 16,777,216 or 1e-08."""
    return f"{int(value):,}" if value == int(value) and abs(value) < 1e15 else f"{value:g}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _all_keys(section: type[BaseModel] = RunConfig, prefix: str = "") -> dict[str, str]:
    """Key name -> full path, for every key of the schema."""
    keys: dict[str, str] = {}
    for name, field in section.model_fields.items():
        key = field.alias or name
        keys.setdefault(key, prefix + key)
        for item in flatten(field.annotation):
            if isinstance(item, type) and issubclass(item, BaseModel):
                for inner, full in _all_keys(item, f"{prefix}{key}.").items():
                    keys.setdefault(inner, full)
    return keys


def _unknown(path: KeyPath, data: Any) -> str:
    """What is said of a key that its section does not have; another type of the section may have it."""
    name, kind = ".".join(map(str, path)), data
    for part in path[:-1]:
        kind = kind[part]
    kind = kind.get("type") if isinstance(kind, dict) else None
    if isinstance(kind, str) and _all_keys().get(str(path[-1])) == name:
        return f"unknown key {_short(name)}; {path[-1]} is not a key of {kind:.60}"
    return f"unknown key {_short(name)}" + _nearest(path, data)


def _nearest(path: KeyPath, data: Any) -> str:
    name = str(path[-1])
    section = section_at(path, data)
    if section is not None:
        names = [field.alias or key for key, field in section.model_fields.items()]
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        if close:
            return f"; did you mean {close[0]!r}?"
    everywhere = _all_keys()
    close = difflib.get_close_matches(name, list(everywhere), n=1, cutoff=0.75)
    if close and everywhere[close[0]] != ".".join(map(str, path)):
        return f"; the nearest known key is {everywhere[close[0]]!r}"
    if section is not None:
        fields = section.model_fields.items()
        known = sorted(
            field.alias or key
            for key, field in fields
            if not any(isinstance(item, (Ignored, Only)) for item in field.metadata)
        ) or sorted(section.model_fields)
        return f"; known here: {', '.join(known[:MOST_NAMES])}{', …' if len(known) > MOST_NAMES else ''}"
    return ""
