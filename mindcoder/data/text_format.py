"""How texts were made into token ids: the prompt template and the tokenizer.

Datasets, runs, checkpoints and exports carry it, so that a model is asked the way it was trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mindcoder.data.prompt import TEMPLATES
from mindcoder.errors import UserError
from mindcoder.files import read_json_object, write_text
from mindcoder.tokenizer.fingerprint import TokenizerPrint

FORMAT_FILE = "mindcoder.json"
STATE_KEY = "text_format"  # in the state of a training checkpoint


@dataclass(frozen=True)
class TextFormat:
    """What is known of it.

    Attributes:
        template: a name in `TEMPLATES`; None where no prompt was filled in.
        tokenizer: None where nobody said.
    """

    template: str | None = None
    tokenizer: TokenizerPrint | None = None

    def __bool__(self) -> bool:
        return self.template is not None or self.tokenizer is not None

    def over(self, below: TextFormat) -> TextFormat:
        """This, with what it does not know from ``below``."""
        return TextFormat(self.template or below.template, self.tokenizer or below.tokenizer)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "prompt_template": self.template,
            "tokenizer": None if self.tokenizer is None else asdict(self.tokenizer),
        }


UNKNOWN = TextFormat()


def text_format_of(values: Mapping[str, Any], file: Path | str) -> TextFormat:
    """The inverse of `TextFormat.as_dict`.

    Raises:
        UserError: it is none, or names a template that is not known here.
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
    """What a folder of weights or a tokenizer says.

    Raises:
        UserError: its file is broken.
    """
    file = folder / FORMAT_FILE
    return text_format_of(read_json_object(file, limit=1 << 20), file) if file.is_file() else UNKNOWN


def write_text_format(folder: Path, text_format: TextFormat) -> None:
    """Put it into a folder, where there is anything to say."""
    if text_format:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FORMAT_FILE, json.dumps({"version": 1, **text_format.as_dict()}, indent=2) + "\n")


def agreed_format(
    datasets: Sequence[tuple[str, TextFormat]], tokenizer: TokenizerPrint | None, template: str | None
) -> TextFormat:
    """The one format of several datasets and of what the user gave.

    Args:
        datasets: locations, and what they say.
        tokenizer: of the run; None where there is none.
        template: that the user asked for; None where they did not.

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
                f"{found.template}, or preprocess again with --template {known.template}",
                location,
            )
        check_tokenizer(found.tokenizer, known.tokenizer, "was made with", sources["tokenizer"], location)
        for name in sources:
            if getattr(known, name) is None and getattr(found, name) is not None:
                sources[name] = f"that of {location}"
        known = known.over(found)
    # A template that was only asked for was used for nothing where every dataset says that it has no prompts.
    said = [found for _, found in datasets if found.tokenizer is not None]
    if said and len(said) == len(datasets) and all(found.template is None for found in said):
        return TextFormat(None, known.tokenizer)
    return known


def check_tokenizer(
    expected: TokenizerPrint | None, given: TokenizerPrint | None, made: str, whose: str, place: Path | str
) -> None:
    """Compare a tokenizer to the one that something was made with; what is not known fits.

    Args:
        made: "was made with" or "was trained with".
        whose: the tokenizer that is given.

    Raises:
        UserError: they are not the same.
    """
    if expected is None or given is None or expected.sha256 == given.sha256:
        return
    raise UserError(f"{made} another tokenizer ({expected}) than {whose} ({given})", place)
