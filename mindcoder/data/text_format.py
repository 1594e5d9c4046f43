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

from mindcoder.data.own_template import own_or, template_of
from mindcoder.data.prompt import OWN, TEMPLATE_NAMES
from mindcoder.errors import UserError
from mindcoder.files import read_json_object, write_text
from mindcoder.tokenizer import CodeTokenizer
from mindcoder.tokenizer.fingerprint import TokenizerPrint

log = logging.getLogger(__name__)

FORMAT_FILE = "mindcoder.json"
STATE_KEY = "text_format"  # key in the state of a training checkpoint


@dataclass(frozen=True)
class TextFormat:
    """Prompt template and tokenizer, as far as they are known.

    Attributes:
        template: one of `TEMPLATE_NAMES`; None if no prompt was used.
        tokenizer: None if unknown.
        chat_template: digest of the model's own template, if ``template`` is that (`ChatTemplate.digest`).
    """

    template: str | None = None
    tokenizer: TokenizerPrint | None = None
    chat_template: str | None = None

    def __bool__(self) -> bool:
        return self.template is not None or self.tokenizer is not None

    def over(self, below: TextFormat) -> TextFormat:
        """This format, with unknown parts taken from ``below``."""
        own = below if self.template is None else self
        return TextFormat(own.template, self.tokenizer or below.tokenizer, own.chat_template)

    @property
    def template_identity(self) -> str | None:
        """The template's name; of a model's own one, which differs from model to model, with its digest."""
        return self.template if self.chat_template is None else f"{self.template} {self.chat_template}"

    def as_dict(self) -> dict[str, Any]:
        """As data for JSON."""
        return {
            "prompt_template": self.template,
            "tokenizer": None if self.tokenizer is None else asdict(self.tokenizer),
            **({} if self.chat_template is None else {"chat_template": self.chat_template}),
        }


UNKNOWN = TextFormat()


def chosen_template(
    asked: str | None, trained: TextFormat, otherwise: str, tokenizer: CodeTokenizer | None = None
) -> str:
    """The template that questions are filled into; says so where it is not the one that the model was trained with.

    Args:
        asked: by the user.
        trained: what the weights say.
        otherwise: where neither names one, and the model has no chat template of its own.
        tokenizer: with which that lies.

    Raises:
        UserError: no such template, or the model's own is asked for and is missing or damaged.
    """
    template = asked or trained.template or own_or(tokenizer, otherwise)
    if template not in TEMPLATE_NAMES:
        raise UserError(f"no template {template!r}; available: {', '.join(TEMPLATE_NAMES)}")
    if trained.template not in (None, template):
        log.warning("template %s is used; the model was trained with %s", template, trained.template)
    if template == OWN and tokenizer is not None:
        own = template_of(tokenizer)
        if trained.chat_template not in (None, own.digest):
            log.warning("%s is not the chat_template that the model was trained with", own.source)
    return template


def format_with(
    template: str | None, tokenizer: CodeTokenizer | None, identity: TokenizerPrint | None = None
) -> TextFormat:
    """The format of texts in ``template`` with ``tokenizer``.

    Args:
        identity: of the tokenizer, if it is to be recorded.
    """
    own = tokenizer.chat_template if tokenizer is not None and template == OWN else None
    return TextFormat(template, identity, None if own is None else own.digest)


def text_format_of(values: Mapping[str, Any], file: Path | str) -> TextFormat:
    """The inverse of `TextFormat.as_dict`.

    Raises:
        UserError: it is not one, or names an unknown template.
    """
    template, tokenizer, own = (values.get(name) for name in ("prompt_template", "tokenizer", "chat_template"))
    if template is not None and template not in list(TEMPLATE_NAMES):
        known = ", ".join(TEMPLATE_NAMES)
        raise UserError(f"prompt_template: no template {str(template)[:40]!r}; available: {known}", file)
    if not isinstance(own, str | None):
        raise UserError(f"chat_template: expected a digest, found {type(own).__name__}", file)
    if tokenizer is None:
        return TextFormat(template, None, own)
    try:
        found = TokenizerPrint(**tokenizer)
        fits = (type(found.vocab_size), type(found.sha256), type(found.adds_bos)) == (int, str, bool)
    except TypeError:
        fits = False
    if not fits:
        raise UserError("tokenizer: expected vocab_size, sha256 and adds_bos", file)
    return TextFormat(template, found, own)


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
    datasets: Sequence[tuple[str, TextFormat]],
    tokenizer: TokenizerPrint | None,
    template: str | None,
    chat_template: str | None = None,
) -> TextFormat:
    """The single text format of several datasets and the user's flags.

    Args:
        datasets: locations, and their text formats.
        tokenizer: of the run; None if there is none.
        template: requested by the user; None if not given.
        chat_template: digest of the model's own template, if that is requested.

    Raises:
        UserError: two of them differ.
    """
    known: TextFormat = TextFormat(template, tokenizer, chat_template)
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
        if None not in (found.chat_template, known.chat_template) and found.chat_template != known.chat_template:
            raise UserError(
                f"was made with another chat_template ({found.chat_template}) than {sources['template']} "
                f"({known.chat_template}): run preprocess again with this model's tokenizer",
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
