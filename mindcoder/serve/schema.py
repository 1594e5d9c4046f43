"""Rules for every object in a request: types are not converted, a misspelt field is refused with its neighbour."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

EXPECTED, UNKNOWN = "expected", "unknown_field"  # types of our own errors; see `mindcoder.serve.refusals`
FEW = 12  # names that fit on a line


class Strict(BaseModel):
    """An object with known fields of one type each; an integer is a number too, nothing else is two things."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def has_known_fields(cls, data: Any) -> Any:
        """Before all else: a misspelt field would otherwise be reported as a missing one, and each of 100,000."""
        if isinstance(data, dict):
            for name in data:
                if name not in cls.model_fields:
                    raise unknown(name, cls.model_fields)
        return data


def unknown(name: str, known: Iterable[str]) -> PydanticCustomError:
    """A field that does not exist, and the one that may be meant."""
    names = list(known)
    near = difflib.get_close_matches(name[:80], names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}" if len(names) <= FEW else ""
    return PydanticCustomError(UNKNOWN, "unknown field", {"name": name[:80], "hint": hint})


def expected(what: str, field: str = "") -> PydanticCustomError:
    """A value that is not ``what``; what was found is added where the error is told.

    Args:
        field: of the object that was looked at, when it is not the object itself.
    """
    return PydanticCustomError(EXPECTED, "expected {what}", {"what": what, "field": field})


def only(*values: Any, why: str) -> AfterValidator:
    """null or one of ``values``, which ask for what the server does anyway.

    Args:
        why: the other values are refused.
    """

    def check(value: Any) -> Any:
        if value is None or any(_is_same(value, item) for item in values):
            return value
        raise expected(f"{' or '.join(map(json.dumps, values)) or 'null'} ({why})")

    return AfterValidator(check)


def _is_same(value: Any, item: Any) -> bool:
    """Equal as JSON: true is not 1."""
    return isinstance(value, bool) == isinstance(item, bool) and value == item
