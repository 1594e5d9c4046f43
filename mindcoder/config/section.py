"""The base of every section of the YAML file, and what a key without an effect is marked with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, field_validator
from pydantic_core import PydanticCustomError, core_schema

SMALLEST_FLOAT32 = 2.0**-126  # below it, float32 loses digits and devices calculate with 0
LARGEST_FLOAT32 = (2 - 2.0**-23) * 2.0**127
ASKS_FOR_NOTHING: tuple[object, ...] = (None, False, "", [], {})


class Section(BaseModel):
    """A mapping of the YAML file: frozen, finite, no unknown keys, no silent conversion of types.

    A key is live (something in MindCoder reads it) unless its annotation has an `Ignored` or an `Only`.
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
        """Refuse numbers that turn into 0 or infinity where they are calculated with."""
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not fits_float32(number):
                raise PydanticCustomError("float32", "a number of size 1.2e-38 to 3.4e+38, or 0 where it is allowed")
        return value


def fits_float32(number: float) -> bool:
    """Whether a number is 0, or one that float32 holds with all its digits."""
    return not number or SMALLEST_FLOAT32 <= abs(number) <= LARGEST_FLOAT32


@dataclass(frozen=True)
class Ignored:
    """Marks a key that is accepted and changes no result here.

    Attributes:
        reason: the end of the line that a run writes about it: "… has no effect: <reason>".
        neutral: values that ask for nothing, about which nothing is written.
        live: something other than a run reads it after all (``plan`` does).
    """

    reason: str
    neutral: tuple[object, ...] = ASKS_FOR_NOTHING
    live: bool = False


@dataclass(frozen=True)
class Describes(Ignored):
    """Marks a key that names a thing and asks for nothing; no line is written about it."""


@dataclass(frozen=True)
class Only:
    """Marks a key with one possible meaning: any other value would change the result, and that is not there.

    Attributes:
        values: what is accepted; what is not given or empty always is.
        instead: what to do in place of other values.
    """

    values: tuple[object, ...]
    instead: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Check the value once its type has been."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: Any) -> Any:
        if value in (None, "", [], {}) or any(value == one and isinstance(value, type(one)) for one in self.values):
            return value
        expected = " or ".join(repr(one) for one in self.values) or "no such key"
        raise PydanticCustomError("only", "{expected} ({instead})", {"expected": expected, "instead": self.instead})


# Bounds that no real run reaches. Past them lies a slip of the finger, and a computation that never ends.
Count = Annotated[int, Field(ge=1, le=1 << 20)]  # heads, layers of a file, processes, blocks of a batch
Size = Annotated[int, Field(ge=1, le=1 << 24)]  # features, tokens
Layers = Annotated[int, Field(ge=1, le=1000)]
Steps = Annotated[int, Field(ge=1, le=1_000_000_000)]
StepsOrNone = Annotated[int, Field(ge=0, le=1_000_000_000)]
TokenId = Annotated[int, Field(ge=-1, lt=1 << 31)]
Rate = Annotated[float, Field(ge=0, lt=1)]  # of dropout
LearningRate = Annotated[float, Field(ge=0, le=1000)]
