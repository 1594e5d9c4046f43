"""One-line messages for pydantic's validation errors: the field, what was found, what is expected."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from mindcoder.serve.schema import EXPECTED, UNKNOWN

KINDS = {
    "string_type": "a text",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "int_parsing_size": "an integer of 64 bits",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
    "greater_than": ("more than", "gt"),
    "less_than": ("less than", "lt"),
}
LONGEST = 40  # characters of a string that are repeated
LONGEST_PLACE = 200


def refusal(error: ValidationError) -> tuple[str, str | None]:
    """The message, and the field such as ``messages[0].role``; None if it is the whole body."""
    problem = error.errors(include_url=False)[0]
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "json_invalid":
        return f"the body is not JSON: {context['error']}", None
    location = list(problem["loc"])
    if kind == UNKNOWN:
        name = context["name"][:LONGEST]
        hint = f"; {context['hint']}" if context["hint"] else ""
        return f"{_with_colon(_location(location))}unknown field {name!r}{hint}", _location([*location, name])
    found = problem["input"]
    if kind == EXPECTED and context["field"]:
        location.append(context["field"])
        found = found.get(context["field"]) if isinstance(found, dict) else getattr(found, context["field"], None)
    where = _location(location)
    if kind == "missing":
        return f"{where}: it is missing", where
    return f"{_with_colon(where)}{_expected(kind, context, problem['msg'])}, found {shown(found)}", where or None


def shown(value: Any) -> str:
    """A short value as JSON; the size of a list or an object."""
    if isinstance(value, str):
        return json.dumps(value if len(value) <= LONGEST else value[: LONGEST - 1] + "…", ensure_ascii=False)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, (int, float)):
        try:
            text = str(value)
        except ValueError:  # Python does not format integers of more than 4,300 digits
            text = "a very large integer"
        return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return "an object"


def _expected(kind: str, context: dict[str, Any], message: str) -> str:
    if kind == EXPECTED:
        return f"expected {context['what']}"
    if kind in KINDS:
        return f"expected {KINDS[kind]}"
    if kind in BOUNDS:
        words, name = BOUNDS[kind]
        return f"expected {words} {context[name]}"
    if kind == "literal_error":
        return f"expected {context['expected']}"
    if kind == "string_too_long":
        return f"expected at most {context['max_length']} characters"
    if kind == "string_too_short":
        return f"expected at least {context['min_length']} character"
    if kind == "too_long":
        what = "an object" if context["field_type"] == "Dictionary" else "a list"
        return f"expected {what} of at most {context['max_length']}"
    if kind == "too_short":
        return f"expected a list of at least {context['min_length']}"
    return message.removeprefix("Value error, ")


def _location(parts: list[int | str]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".")[:LONGEST_PLACE]


def _with_colon(location: str) -> str:
    return f"{location}: " if location else ""
