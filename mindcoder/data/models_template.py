"""Compares the chat template of a Hugging Face folder with one of ours that is used in its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindcoder.data.chat_template import chat_template
from mindcoder.data.prompt import TEMPLATES
from mindcoder.errors import UserError, single_line
from mindcoder.tokenizer import CodeTokenizer
from mindcoder.tokenizer.chat_template import find_chat_template
from mindcoder.tokenizer.render_child import fill_in
from mindcoder.tokenizer.render_process import LARGEST, CannotRender, RenderProcess

__all__ = ["ASKED", "LARGEST", "TOLD", "CannotRender", "read_models_template", "remark_on", "render"]

ASKED = [{"role": "user", "content": "Add {a} to [b]."}]
TOLD = [*ASKED, {"role": "assistant", "content": "a + b"}, {"role": "user", "content": "And c?"}]
JOBS = [{"messages": talk, "tools": None, "add_generation_prompt": True} for talk in (ASKED, TOLD)]
SHOWN = 60  # characters of its output in a message


def read_models_template(files: Mapping[str, Path]) -> tuple[str, Path] | None:
    """The chat template among a model's files, and the file that contains it; None if there is none.

    Args:
        files: by file name, as `mindcoder.checkpoint.companions.find_companions` returns them.

    Raises:
        UserError: it is not a string, or too long.
    """
    found = find_chat_template(files)
    return None if found is None else (found[0], found[2])


def remark_on(name: str, files: Mapping[str, Path], tokenizer: CodeTokenizer) -> str | None:
    """One line if a model's own chat template renders other texts than our template ``name``, which is used.

    A single question must give the same text, character by character; in a conversation whitespace may differ.

    Args:
        files: of the model, see `read_models_template`.
    """
    try:
        found = read_models_template(files)
    except UserError as error:  # a mere comparison must not stop a run
        return f"template {name} is used; the model's own chat_template cannot be compared with it: {error}"
    if found is None or found[0] == chat_template(name, tokenizer.bos_id is not None):  # as written by `convert`
        return None
    text, file = found
    start = f"template {name} is used; the model's own chat_template ({file})"
    try:
        theirs = render(text, tokenizer)
    except CannotRender as error:
        return f"{start} cannot be compared with it: {error}"
    if _alike(name, theirs, tokenizer):
        return None
    same = [other for other in TEMPLATES if _alike(other, theirs, tokenizer)]
    if same:
        return f"{start} is that of our template {same[0]}"
    if not theirs[0].strip():
        return f"{start} makes an empty text of a question"
    return f"{start} differs, it begins {single_line(repr(theirs[0]), SHOWN)}"


def _alike(name: str, theirs: list[str], tokenizer: CodeTokenizer) -> bool:
    ours = chat_template(name, tokenizer.bos_id is not None)
    if ours is None:  # plain: the bare question, which no chat template renders
        return False
    (question, talk), _ = fill_in(ours, JOBS, _variables(tokenizer))
    return question == theirs[0] and "".join(talk.split()) == "".join(theirs[1].split())


def _variables(tokenizer: CodeTokenizer) -> dict[str, Any]:
    special = tokenizer.special
    tokens = {"bos_token": special.bos, "eos_token": special.eos, "pad_token": special.pad, "unk_token": None}
    return {name: token or "" for name, token in tokens.items()}


def render(text: str, tokenizer: CodeTokenizer) -> list[str]:
    """Render `ASKED` and `TOLD` with the untrusted chat template ``text``, up to the beginning of the answer.

    Raises:
        CannotRender: it fails, takes too long or too much memory.
    """
    return [rendered.text for rendered in RenderProcess().render(text, JOBS, _variables(tokenizer))]
