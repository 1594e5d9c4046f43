"""Fill-in-the-middle prompts: which marks a vocabulary has, and what stands around a gap."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from mindcoder.families.infill_tokens import InfillTokens
from mindcoder.tokenizer.special_tokens import INFILL_TOKENS

PLACE = re.compile(r"\{(name|path|content)\}")


@dataclass(frozen=True)
class Repository:
    """What is known around a file with a gap.

    Attributes:
        files: related files, path and content each; the model sees them in this order, before the gap.
        path: of the file with the gap.
        name: of the repository.
    """

    files: tuple[tuple[str, str], ...] = ()
    path: str = ""
    name: str = ""


def marks_in(has: Callable[[str], bool]) -> InfillTokens | None:
    """The marks that a vocabulary has, of several the one with most tokens of its own; None if it has none.

    Args:
        has: predicate, true for tokens of the vocabulary.
    """
    found = [marks for marks in INFILL_TOKENS if all(map(has, marks.required))]
    return max(found, key=lambda marks: len(marks.required), default=None)


def texts_before(marks: InfillTokens, repository: Repository) -> tuple[str, str]:
    """What stands before the mark of the prefix, and what stands behind it before the prefix itself.

    A model without marks for repositories gets its files as text behind the mark, each below a line with its path.
    """
    form = marks.repository
    parts = [_fill(form.head, name=repository.name) if repository.name else ""]
    parts += [_fill(form.file, path=path, content=content) for path, content in repository.files]
    inside = ""
    if repository.path:
        parts.append(_fill(form.current, path=repository.path))
        inside = _fill(form.inside, path=repository.path)
    before = "".join(parts)
    return ("", before + inside) if form.is_text else (before, inside)


def _fill(form: str, **values: str) -> str:
    # not str.format, because code contains braces
    return PLACE.sub(lambda match: values.get(match[1], ""), form)
