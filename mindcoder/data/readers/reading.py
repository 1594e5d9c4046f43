"""How to read a file's records if their fields have other names or contain a verdict."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

_NAMES = (
    "instruction input output system history tools functions messages conversations conversation chat plain_text text "
    "content prompt completion response question answer query problem solution target context system_prompt instances "
    "chosen rejected kto_tag label meta_instruction prefix"
)
FIELDS = tuple(_NAMES.split())


@dataclass(frozen=True)
class Reading:
    """How records are read.

    Attributes:
        columns: pairs (field of a layout, field of the file that is used for it).
        layout: the only layout that is tried; by default the first match.
        desirable_only: of answers with KTO's tag, learn those marked as desirable and drop the others.
        keep_raw: keep the JSON object beside its record.
    """

    columns: tuple[tuple[str, str], ...] = ()
    layout: str = ""
    desirable_only: bool = False
    keep_raw: bool = False


def column_pairs(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Validated ``columns`` of a `Reading`.

    Raises:
        ValueError: a field that no layout has, or a duplicate name.
    """
    found: dict[str, str] = {}
    for name, column in pairs:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(FIELDS)}"
            raise ValueError(f"no layout has a field {name!r}; {hint}")
        if name in found:
            raise ValueError(f"{name!r} is given twice")
        if not isinstance(column, str) or not column:
            raise ValueError(f"{name}: expected the name of a field of the file, found {column!r}")
        if column in found.values():
            raise ValueError(f"the file's field {column!r} cannot be two fields at once")
        found[name] = column
    return tuple(found.items())


def parse_columns(text: str) -> tuple[tuple[str, str], ...]:
    """Parse ``columns`` of a `Reading` from ``instruction=q,output=a``.

    Raises:
        ValueError: not pairs, or as `column_pairs`.
    """
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    if not all(sign and column.strip() for _, sign, column in pairs):
        raise ValueError(f"expected pairs such as instruction=q,output=a, found {text[:80]!r}")
    return column_pairs((name.strip(), column.strip()) for name, _, column in pairs)
