"""One error for all mismatches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mindcoder.errors import UserError

SHOWN = 10  # names listed per kind


def mismatch_error(path: Path | str, kinds: Mapping[str, Sequence[str]]) -> UserError:
    """Counts, and the first ten names of each kind (``missing``, ``unexpected``, ``of another shape``)."""
    parts = []
    for title, names in kinds.items():
        if names:
            more = f" … {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            parts.append(f"{len(names)} {title}: {', '.join(names[:SHOWN])}{more}")
    return UserError("does not fit the model: " + "; ".join(parts), path)
