"""Base class of all sections of the YAML file, and the markers of keys without an effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, field_validator
from pydantic_core import PydanticCustomError, core_schema

SMALLEST_FLOAT32 = 2.0**-126  # below it float32 loses precision and devices flush to 0
LARGEST_FLOAT32 = (2 - 2.0**-23) * 2.0**127
ASKS_FOR_NOTHING: tuple[object, ...] = (None, False, "", [], {})


class Section(BaseModel):
    """A mapping of the YAML file: frozen, finite, no unknown keys, no silent type conversion.

    A key is live (something in MindCoder reads it) unless it is annotated with `Ignored` or `Only`.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        populate_by_name=True,
    )

    @field_validator("*")
    @classmethod
    def _fits_float32(cls, value: Any) -> Any:
        """Refuse numbers that would become 0 or infinity in float32."""
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not fits_float32(number):
                raise PydanticCustomError("float32", "a number of size 1.2e-38 to 3.4e+38, or 0 where it is allowed")
        return value


def fits_float32(number: float) -> bool:
    """Whether a number is 0 or representable in float32 at full precision."""
    return not number or SMALLEST_FLOAT32 <= abs(number) <= LARGEST_FLOAT32


@dataclass(frozen=True)
class Ignored:
    """Marks a key that is accepted but changes no result here.

    Attributes:
        reason: end of the line that a run prints about it: "… has no effect: <reason>".
        neutral: values that request nothing, about which nothing is printed.
        live: read by something other than a run (``plan``).
    """

    reason: str
    neutral: tuple[object, ...] = ASKS_FOR_NOTHING
    live: bool = False


@dataclass(frozen=True)
class Describes(Ignored):
    """Marks a descriptive key that requests nothing; no line is printed about it."""


@dataclass(frozen=True)
class Only:
    """Marks a key with a single supported meaning: any other value would change the result and is not implemented.

    Attributes:
        values: accepted values; missing or empty is always accepted.
        instead: what to use in place of other values.
    """

    values: tuple[object, ...]
    instead: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Validate the value after its type."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: Any) -> Any:
        if value in (None, "", [], {}) or any(value == one and isinstance(value, type(one)) for one in self.values):
            return value
        expected = " or ".join(repr(one) for one in self.values) or "no such key"
        raise PydanticCustomError("only", "{expected} ({instead})", {"expected": expected, "instead": self.instead})


class Ours:
    """Marks a key that MindFormers' files do not have."""


# Bounds that no real run reaches. Values beyond them are typos, and would start computations that never end.
Count = Annotated[int, Field(ge=1, le=1 << 20)]  # heads, layers, processes, blocks of a batch
Size = Annotated[int, Field(ge=1, le=1 << 24)]  # features, tokens
Layers = Annotated[int, Field(ge=1, le=1000)]
Steps = Annotated[int, Field(ge=1, le=1_000_000_000)]
StepsOrNone = Annotated[int, Field(ge=0, le=1_000_000_000)]
TokenId = Annotated[int, Field(ge=-1, lt=1 << 31)]
Rate = Annotated[float, Field(ge=0, lt=1)]  # dropout rates
LearningRate = Annotated[float, Field(ge=0, le=1000)]
