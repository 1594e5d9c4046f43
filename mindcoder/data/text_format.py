"""How texts become token ids: the prompt template and the tokenizer.

Datasets, runs, checkpoints and exports record it, so that a model is prompted the way it was trained.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mindcoder.data.prompt import TEMPLATES
from mindcoder.errors import UserError
from mindcoder.files import read_json_object, write_text
from mindcoder.tokenizer.fingerprint import TokenizerPrint

log = logging.getLogger(__name__)

FORMAT_FILE = "mindcoder.json"
STATE_KEY = "text_format"  # key in the state of a training checkpoint


@dataclass(frozen=True)
class TextFormat:
    """Prompt template and tokenizer, as far as they are known.

    Attributes:
        template: a name in `TEMPLATES`; None if no prompt was used.
        tokenizer: None if unknown.
    """

    template: str | None = None
    tokenizer: TokenizerPrint | None = None

    def __bool__(self) -> bool:
        return self.template is not None or self.tokenizer is not None

    def over(self, below: TextFormat) -> TextFormat:
        """This format, with unknown parts taken from ``below``."""
        return TextFormat(self.template or below.template, self.tokenizer or below.tokenizer)

    def as_dict(self) -> dict[str, Any]:
        """As data for JSON."""
        return {
            "prompt_template": self.template,
            "tokenizer": None if self.tokenizer is None else asdict(self.tokenizer),
        }


UNKNOWN = TextFormat()


def chosen_template(asked: str | None, trained: TextFormat, otherwise: str) -> str:
    """The template that questions are filled into; says so where it is not the one that the model was trained with.

    Args:
        asked: by the user.
        trained: what the weights say.
        otherwise: where neither names one.

    Raises:
        UserError: no such template.
    """
    template = asked or trained.template or otherwise
    if template not in TEMPLATES:
        raise UserError(f"no template {template!r}; there are {', '.join(TEMPLATES)}")
    if trained.template not in (None, template):
        log.warning("template %s is used; the model was trained with %s", template, trained.template)
    return template


def text_format_of(values: Mapping[str, Any], file: Path | str) -> TextFormat:
    """The inverse of `TextFormat.as_dict`.

    Raises:
        UserError: it is not one, or names an unknown template.
    """
    template, tokenizer = values.get("prompt_template"), values.get("tokenizer")
    if template is not None and template not in list(TEMPLATES):
        raise UserError(f"prompt_template: no template {str(template)[:40]!r}; there are {', '.join(TEMPLATES)}", file)
    if tokenizer is None:
        return TextFormat(template)
    try:
        found = TokenizerPrint(**tokenizer)
        fits = (type(found.vocab_size), type(found.sha256), type(found.adds_bos)) == (int, str, bool)
    except TypeError:
        fits = False
    if not fits:
        raise UserError("tokenizer: expected vocab_size, sha256 and adds_bos", file)
    return TextFormat(template, found)


def read_text_format(folder: Path) -> TextFormat:
    """The text format recorded in a folder of weights or a tokenizer.

    Raises:
        UserError: its file is corrupt.
    """
    file = folder / FORMAT_FILE
    return text_format_of(read_json_object(file, limit=1 << 20), file) if file.is_file() else UNKNOWN


def write_text_format(folder: Path, text_format: TextFormat) -> None:
    """Write it into a folder, if anything is known."""
    if text_format:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FORMAT_FILE, json.dumps({"version": 1, **text_format.as_dict()}, indent=2) + "\n")


def agreed_format(
    datasets: Sequence[tuple[str, TextFormat]], tokenizer: TokenizerPrint | None, template: str | None
) -> TextFormat:
    """The single text format of several datasets and the user's flags.

    Args:
        datasets: locations, and their text formats.
        tokenizer: of the run; None if there is none.
        template: requested by the user; None if not given.

    Raises:
        UserError: two of them differ.
    """
    known: TextFormat = TextFormat(template, tokenizer)
    sources = {
        "template": "prompt_template (--template)",
        "tokenizer": "the run's tokenizer (--vocab_file, or the one beside --load_checkpoint)",
    }
    for location, found in datasets:
        if found.template is not None and known.template not in (None, found.template):
            raise UserError(
                f"was made with template {found.template}, {sources['template']} is {known.template}: give --template "
                f"{found.template}, or run preprocess again with --template {known.template}",
                location,
            )
        check_tokenizer(found.tokenizer, known.tokenizer, "was made with", sources["tokenizer"], location)
        for name in sources:
            if getattr(known, name) is None and getattr(found, name) is not None:
                sources[name] = f"that of {location}"
        known = known.over(found)
    # A requested template has no effect if every dataset says that it has no prompts.
    said = [found for _, found in datasets if found.tokenizer is not None]
    if said and len(said) == len(datasets) and all(found.template is None for found in said):
        return TextFormat(None, known.tokenizer)
    return known


def check_tokenizer(
    expected: TokenizerPrint | None, given: TokenizerPrint | None, made: str, whose: str, where: Path | str
) -> None:
    """Compare a tokenizer with the one that something was made with; unknown parts match anything.

    Args:
        made: "was made with" or "was trained with".
        whose: description of the given tokenizer.

    Raises:
        UserError: they differ.
    """
    if expected is None or given is None or expected.sha256 == given.sha256:
        return
    raise UserError(f"{made} another tokenizer ({expected}) than {whose} ({given})", where)
