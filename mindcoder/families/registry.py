"""All model families: one for each folder of this package."""

from __future__ import annotations

import importlib
import pkgutil

import mindcoder.families as room
from mindcoder.families.base import Family


def _found() -> dict[str, Family]:
    """The ``FAMILY`` of every folder, by Hugging Face's ``model_type``, in the order of the folders' names."""
    names = sorted(module.name for module in pkgutil.iter_modules(room.__path__) if module.ispkg)
    families: list[Family] = [importlib.import_module(f"{room.__name__}.{name}").FAMILY for name in names]
    return {family.model_type: family for family in families}


FAMILIES = _found()


def family_of(model_type: str) -> Family:
    """The family of a ``config.json``.

    Raises:
        ValueError: no such family.
    """
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ValueError(f"model_type {model_type!r:.60} is not one of {', '.join(FAMILIES)}")
    return FAMILIES[model_type]


def family_of_type(name: str) -> Family:
    """The family of a ``model.model_config.type``.

    Raises:
        KeyError: no such type; the schema has refused it before.
    """
    return {kind: family for family in FAMILIES.values() for kind in family.architectures}[name]
