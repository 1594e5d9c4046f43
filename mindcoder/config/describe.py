"""What a key is, from its declaration: the section that holds it, its type, its default and what it means."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mindcoder.config.schema import RunConfig
from mindcoder.config.source import KeyPath
from mindcoder.sections.section import Describes, Ignored, Only, Ours

BASE_TEXT = "parts, joined in this order: a later one wins, and the keys below win over all"


@dataclass(frozen=True)
class Key:
    """A key and its declaration."""

    name: str
    field: FieldInfo

    @property
    def ignored(self) -> Ignored | None:
        """The marker of a key without effect."""
        return next((item for item in self.field.metadata if isinstance(item, Ignored)), None)

    @property
    def only(self) -> Only | None:
        """The marker of a key with a single supported value."""
        return next((item for item in self.field.metadata if isinstance(item, Only)), None)

    @property
    def is_live(self) -> bool:
        """Whether the key has an effect, on a run or on ``plan``."""
        return self.only is None and (self.ignored is None or self.ignored.live)

    @property
    def is_ours(self) -> bool:
        """Whether MindFormers' files do not have the key."""
        return any(isinstance(item, Ours) for item in self.field.metadata)

    @property
    def is_section(self) -> bool:
        """Whether it holds keys of its own."""
        return bool(sections_in(self.field.annotation))

    @property
    def text(self) -> str:
        """What it means, or why it has no effect."""
        if self.only is not None:
            return self.only.instead
        if self.ignored is not None and not self.field.description:
            return self.ignored.reason
        return self.field.description or ""

    @property
    def default(self) -> str:
        """The default as YAML; empty if it is a section's or if the text says it."""
        value = self.field.default
        if self.field.default_factory is not None or isinstance(value, BaseModel) or "default" in self.text:
            return ""
        if self.field.is_required():
            return "required"
        return "none" if value is None else value or "''" if isinstance(value, str) else _number(value)

    def comment(self) -> str:
        """``what it is (type, default: x)``, for the end of its line."""
        if self.only is not None:
            allowed = " or ".join(repr(value) for value in self.only.values)
            return f"only {allowed}: {self.text}" if allowed else f"not supported: {self.text}"
        if self.ignored is not None and not self.ignored.live:
            return self.text if isinstance(self.ignored, Describes) else f"no effect: {self.text}"
        kind = type_text(self.field.annotation, 60)
        default = self.default if self.default in ("", "required") else f"default: {self.default}"
        inside = [part for part in (kind, default) if part]
        if self.is_section and kind in ("section", "list of sections"):
            return self.text
        return f"{self.text} ({', '.join(inside)})"


def key_at(path: KeyPath, data: Any) -> Key | None:
    """The key at ``path`` of ``data``; None for an item of a list and for a key that there is not.

    Args:
        data: the whole file, whose ``type`` keys select among families.
    """
    section = section_at(path, data)
    if section is None or not isinstance(path[-1], str):
        return None
    return next((key for key in keys_of(section) if key.name == path[-1]), None)


def keys_of(section: type[BaseModel]) -> list[Key]:
    """The keys of a section under the names of the file."""
    return [Key(field.alias or name, field) for name, field in section.model_fields.items()]


def section_at(path: KeyPath, data: Any) -> type[BaseModel] | None:
    """The schema class of the section that contains the key ``path``."""
    section: type[BaseModel] | None = RunConfig
    for part in path[:-1]:
        if isinstance(data, list):
            data = data[part] if isinstance(part, int) and part < len(data) else {}
        else:
            data = data.get(part, {}) if isinstance(data, dict) else {}
        if isinstance(part, int) or section is None:
            continue
        fields = {key.name: key.field for key in keys_of(section)}
        candidates = sections_in(fields[part].annotation) if part in fields else []
        named = [item for item in candidates if isinstance(data, dict) and _has_type(item, data.get("type"))]
        section = next(iter(named or candidates), None)
    return section


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections that an annotation names, in order."""
    return [item for item in flatten(annotation) if isinstance(item, type) and issubclass(item, BaseModel)]


def flatten(annotation: Any) -> list[Any]:
    """The innermost types of an annotation."""
    arguments = get_args(annotation)
    return [item for argument in arguments for item in flatten(argument)] if arguments else [annotation]


def type_text(annotation: Any, most: int = 10_000) -> str:
    """The type for people: ``int``, ``list of float``, ``float16 | float32``, ``section``.

    Args:
        most: characters of a list of choices; longer lists become ``str``.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        parts = [type_text(item, most) for item in arguments if item is not type(None)]
        return " or ".join(dict.fromkeys(parts))
    if origin is Literal:
        named = " | ".join(str(item) for item in arguments)
        return named if len(named) <= most else "str"
    if origin is list:
        inner = type_text(arguments[0], most)
        return "list of sections" if inner == "section" else f"list of {inner}"
    if hasattr(annotation, "__metadata__"):  # Annotated
        return type_text(arguments[0], most)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) or origin is dict:
        return "section"
    return annotation.__name__ if isinstance(annotation, type) else "any"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and value != int(value) else str(value)


def _has_type(section: type[BaseModel], value: Any) -> bool:
    """Whether ``type: value`` selects this member of a union of sections."""
    field = section.model_fields.get("type")
    return field is not None and value in get_args(field.annotation)
