"""Fields of ``config.json``, each declared once and read both ways.

A field turns what the file says into arguments of `TransformerConfig`, and a `TransformerConfig` into what is written.
The simple ones are here; those of several families that need more are in `mindcoder.families.special_fields`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from mindcoder.families.config_fields import ConfigFields
from mindcoder.families.transformer_config import TransformerConfig


class Field(Protocol):
    """One field of ``config.json``, or some that belong together."""

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """Add arguments of `TransformerConfig` to ``found``, which has those of the fields declared before this one.

        Raises:
            ValueError: the value is not valid, or not implemented for the family.
        """

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """What the file says of ``config``; nothing for a field that is only checked.

        Raises:
            ValueError: the file has no way to say it.
        """


@dataclass(frozen=True)
class Value:
    """A field with a value of its own kind.

    Attributes:
        ours: field of `TransformerConfig`, or several that have the same value.
        theirs: field of ``config.json``; empty: the same name.
        default: of the class in transformers, where the file lacks the field.
    """

    ours: str | tuple[str, ...]
    theirs: str = ""
    default: Any = None

    @property
    def targets(self) -> tuple[str, ...]:
        """The fields of `TransformerConfig`."""
        return (self.ours,) if isinstance(self.ours, str) else self.ours

    @property
    def name(self) -> str:
        """The field of ``config.json``."""
        return self.theirs or self.targets[0]

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        found.update(dict.fromkeys(self.targets, self.value(fields)))

    def value(self, fields: ConfigFields) -> Any:
        """The value in the file, or the default."""
        return fields.get(self.name, self.default)

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        values = [getattr(config, name) for name in self.targets]
        if any(value != values[0] for value in values):
            said = ", ".join(f"{name} {value}" for name, value in zip(self.targets, values))
            raise ValueError(f"config.json has one field for these, {self.name}: {said}")
        return {self.name: values[0]}


class Whole(Value):
    """A whole number of at least 1."""

    def value(self, fields: ConfigFields) -> int:
        """See `Value`."""
        return fields.whole(self.name, self.default)


class Number(Value):
    """A finite number."""

    def value(self, fields: ConfigFields) -> float:
        """See `Value`."""
        return fields.number(self.name, self.default)


class Flag(Value):
    """true or false."""

    def value(self, fields: ConfigFields) -> bool:
        """See `Value`."""
        return fields.flag(self.name, self.default)


class Token(Value):
    """A token id, or none."""

    def value(self, fields: ConfigFields) -> int | None:
        """See `Value`."""
        return fields.token(self.name, self.default)


@dataclass(frozen=True)
class Only:
    """A field of which only these values are implemented; it is not written."""

    name: str
    values: tuple[Any, ...]

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        fields.only(self.name, self.values)

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        return {}


@dataclass(frozen=True)
class Repeats:
    """A field that may only repeat what field ``ours`` of `TransformerConfig` was found to be; it is not written."""

    name: str
    ours: str

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        fields.only(self.name, (found[self.ours],))

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        return {}
