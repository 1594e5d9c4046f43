"""Compares the chat template of a Hugging Face folder with ours.

Ours is used in any case (training masks the parts that it knows to be the question); the folder's is only rendered
with a fixed conversation for the comparison.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindcoder.data import render_child
from mindcoder.data.chat_template import TOKENIZER_CONFIG, chat_template
from mindcoder.data.prompt import TEMPLATES
from mindcoder.data.render_child import fill_in
from mindcoder.errors import UserError, single_line
from mindcoder.files import file_there, read_json_object, read_text
from mindcoder.tokenizer import CodeTokenizer

JINJA_FILE = "chat_template.jinja"  # transformers prefers it to the key in tokenizer_config.json
LARGEST = 1 << 18  # characters; the longest published templates have some 20,000
SECONDS = 60.0  # timeout for rendering a template
ASKED = [{"role": "user", "content": "Add {a} to [b]."}]
TOLD = [*ASKED, {"role": "assistant", "content": "a + b"}, {"role": "user", "content": "And c?"}]
SHOWN = 60  # characters of its output in a message


class CannotRender(Exception):
    """One-line reason why a template could not be rendered."""


def read_models_template(files: Mapping[str, Path]) -> tuple[str, Path] | None:
    """The chat template among a model's files, and the file that contains it; None if there is none.

    Args:
        files: by file name, as `mindcoder.checkpoint.companions.find_companions` returns them.

    Raises:
        UserError: it is not a string, or too long.
    """
    file = files.get(JINJA_FILE)
    if file is not None and file_there(file):
        text: Any = read_text(file)
    else:
        file = files.get(TOKENIZER_CONFIG)
        if file is None or not file_there(file):
            return None
        text = read_json_object(file).get("chat_template")
        if isinstance(text, list):  # several named templates, for tools and so on
            named = [item for item in text if isinstance(item, dict) and item.get("name") == "default"]
            text = named[0].get("template") if named else None
    if text is None:
        return None
    if not isinstance(text, str):
        raise UserError(f"chat_template: expected a text, found {type(text).__name__}", file)
    return text, file


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
    question, talk = fill_in(ours, [ASKED, TOLD], _variables(tokenizer))
    return question == theirs[0] and "".join(talk.split()) == "".join(theirs[1].split())


def _variables(tokenizer: CodeTokenizer) -> dict[str, Any]:
    special = tokenizer.special
    tokens = {"bos_token": special.bos, "eos_token": special.eos, "pad_token": special.pad, "unk_token": None}
    return {"add_generation_prompt": True, **{name: token or "" for name, token in tokens.items()}}


def render(text: str, tokenizer: CodeTokenizer) -> list[str]:
    """Render `ASKED` and `TOLD` with the untrusted chat template ``text``, up to the beginning of the answer.

    Raises:
        CannotRender: it fails, takes too long or too much memory.
    """
    if len(text) > LARGEST:
        raise CannotRender(f"it has more than {LARGEST} characters")
    asked = json.dumps({"template": text, "conversations": [ASKED, TOLD], "variables": _variables(tokenizer)})
    command = [sys.executable, "-I", str(render_child.__file__)]
    try:
        done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=SECONDS)
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise CannotRender(f"it takes more than {SECONDS:.0f} s") from None
    except ValueError:
        raise CannotRender("it takes too much time or memory") from None
    if isinstance(answer, dict):
        raise CannotRender(single_line(str(answer.get("error")), 120))
    return answer
