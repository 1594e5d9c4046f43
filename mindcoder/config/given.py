"""A configuration as Python gives it: a file, a dictionary, or one that is validated already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindcoder.config.load import load_config
from mindcoder.config.recipe import BASE, read_bases
from mindcoder.config.schema import RunConfig
from mindcoder.config.source import YamlSource
from mindcoder.errors import UserError

GIVEN = "config"  # what messages call a dictionary


@dataclass(frozen=True)
class Configuration:
    """A validated configuration.

    Attributes:
        run: its keys.
        source: knows where each of them was given.
    """

    run: RunConfig
    source: YamlSource


Config = str | Path | Mapping[str, Any] | Configuration


def read_configuration(
    config: Config,
    overrides: Mapping[str, Any] | None = None,
    arguments: Mapping[str, tuple[str, Any]] | None = None,
) -> Configuration:
    """Validate what a function of `mindcoder.api` was given.

    Args:
        config: a YAML file, or the name of a shipped configuration; or keys as a dictionary, nested
            (``{"runner_config": {"epochs": 2}}``) or by path (``{"runner_config.epochs": 2}``), over the ``base``, if
            any: a file or a name, or a list of them that is joined as in a recipe.
        overrides: key path -> value, over ``config``.
        arguments: key path -> (name of the function's argument, value), over both.

    Raises:
        UserError: with file and line, or the name of the argument, and the key.
    """
    if isinstance(config, Configuration):
        if overrides or arguments:
            raise UserError("overrides: this configuration has already been validated; give them where it is read")
        return config
    if not isinstance(config, str | Path | Mapping):
        raise UserError(f"expected a file or a dictionary, found {type(config).__name__}", GIVEN)
    if not isinstance(overrides or {}, Mapping):
        raise UserError(f"expected key paths and values, found {type(overrides).__name__}", "overrides")
    later = _flat(overrides or {}, "overrides") | dict(arguments or {})
    if not isinstance(config, Mapping):
        return Configuration(*load_config(config, (), later))
    keys = _flat(config, GIVEN)
    base = keys.pop(BASE, (GIVEN, None))[1]
    if base is not None and not isinstance(base, str | Path | list):
        raise UserError(f"base: expected a file or a list of bases, found {type(base).__name__}", GIVEN)
    if isinstance(base, list):
        return Configuration(*load_config(read_bases([str(name) for name in base], GIVEN), (), keys | later))
    if base is not None:
        return Configuration(*load_config(base, (), keys | later))
    return Configuration(*load_config(YamlSource(GIVEN, {}, {}), (), keys | later))


def _flat(keys: Mapping[str, Any], where: str) -> dict[str, tuple[str, Any]]:
    """Path -> (``where``, value).

    Raises:
        UserError: a key occurs twice, nested and by its path.
    """
    flat: dict[str, tuple[str, Any]] = {}
    for path, value in _leaves(keys, where):
        if path in flat:
            raise UserError(f"{path}: found twice, nested and by its path; leave one out", where)
        flat[path] = where, value
    return flat


def _leaves(keys: Mapping[str, Any], where: str, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of every key that is not a section; paths become text."""
    for name, value in keys.items():
        if not isinstance(name, str) or not name:
            raise UserError(f"expected names of keys, found {name!r}", where)
        key = f"{path}.{name}" if path else name
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, where, key)
        else:
            yield key, str(value) if isinstance(value, Path) else value
