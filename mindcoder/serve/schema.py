"""Validation rules for every object in a request: no type conversion, misspelled fields refused with a suggestion."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

EXPECTED, UNKNOWN = "expected", "unknown_field"  # types of our own errors; see `mindcoder.serve.refusals`
FEW = 12  # names that fit on one line


class Strict(BaseModel):
    """An object with known fields of one type each; the only conversion is from integer to float."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def has_known_fields(cls, data: Any) -> Any:
        """Runs first: a misspelled field would otherwise be reported as a missing one, and each of 100,000."""
        if isinstance(data, dict):
            for name in data:
                if name not in cls.model_fields:
                    raise unknown(name, cls.model_fields)
        return data


def unknown(name: str, known: Iterable[str]) -> PydanticCustomError:
    """An unknown field, with a suggestion."""
    names = list(known)
    near = difflib.get_close_matches(name[:80], names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}" if len(names) <= FEW else ""
    return PydanticCustomError(UNKNOWN, "unknown field", {"name": name[:80], "hint": hint})


def expected(what: str, field: str = "") -> PydanticCustomError:
    """A value that is not ``what``; what was found is added when the error is reported.

    Args:
        field: of the validated object, if it is not the object itself.
    """
    return PydanticCustomError(EXPECTED, "expected {what}", {"what": what, "field": field})


def only(*values: Any, why: str) -> AfterValidator:
    """Accept null or one of ``values``, which request what the server does anyway.

    Args:
        why: the reason to refuse other values.
    """

    def check(value: Any) -> Any:
        if value is None or any(_is_same(value, item) for item in values):
            return value
        raise expected(f"{' or '.join(map(json.dumps, values)) or 'null'} ({why})")

    return AfterValidator(check)


def _is_same(value: Any, item: Any) -> bool:
    """Equality as in JSON: true is not 1."""
    return isinstance(value, bool) == isinstance(item, bool) and value == item
