"""The chat template that comes with a tokenizer: Jinja text, in the places where transformers looks for it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mindcoder.errors import UserError, single_line
from mindcoder.files import file_there, read_json_object, read_text
from mindcoder.tokenizer.render_process import CannotRender, Rendered, RenderProcess

JINJA_FILE = "chat_template.jinja"  # transformers prefers it to the key in tokenizer_config.json
TOOLS_FILE = "additional_chat_templates/tool_use.jinja"  # beside it, as transformers ≥ 4.52 writes named templates
TOKENIZER_CONFIG = "tokenizer_config.json"
KEY = "chat_template"
DEFAULT, WITH_TOOLS = "default", "tool_use"  # of several named ones: the one used, and the one used with tools
DIGITS = 16  # hex digits of the digest


@dataclass(frozen=True)
class ChatTemplate:
    """A model's own chat template.

    Attributes:
        text: Jinja; rendered in a process of its own, because a stranger wrote it.
        source: the file, for messages.
        with_tools: another text for conversations with tools; None if ``text`` is for both.
        variables: special tokens by their names, such as ``bos_token``, as transformers passes them.
        problem: why it cannot be read; empty if it can.
    """

    text: str
    source: str
    with_tools: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def digest(self) -> str:
        """Identity of the text, by which a run recognizes the template that a model was trained with."""
        told = repr((self.text, self.with_tools))
        return hashlib.sha256(told.encode()).hexdigest()[:DIGITS]

    @property
    def marks_answers(self) -> bool:
        """Whether it says itself, by ``{% generation %}``, what the assistant's words are."""
        return any("endgeneration" in text for text in (self.text, self.with_tools or ""))

    def takes(self, name: str) -> bool:
        """Whether the template reads ``tools`` or ``tool_calls``."""
        return name in self.text or name in (self.with_tools or "")

    def render(self, jobs: Sequence[Mapping[str, Any]], marks: bool = False) -> list[Rendered]:
        """Render conversations: each job has ``messages``, ``tools`` (or None) and ``add_generation_prompt``.

        Raises:
            CannotRender: the template is damaged, fails, takes too long or too much memory.
        """
        if self.problem:
            raise CannotRender(self.problem)
        has_tools = self.with_tools is not None and any(job.get("tools") for job in jobs)
        text = (self.with_tools if has_tools else self.text) or ""
        try:
            return self._process.render(text, jobs, self.variables, marks)
        except CannotRender as error:
            raise CannotRender(f"the model's chat_template ({self.source}): {error}") from None

    @cached_property
    def _process(self) -> RenderProcess:
        return RenderProcess()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_process"}


def find_chat_template(files: Mapping[str, Path]) -> tuple[str, str | None, Path] | None:
    """The text, the one for conversations with tools, and the file; None if there is none.

    Args:
        files: of a model, by file name.

    Raises:
        UserError: it is not a text or a list of named ones.
    """
    file, tools_file = files.get(JINJA_FILE), files.get(TOOLS_FILE)
    found: Any
    with_tools: Any = None
    if file is not None and file_there(file):
        found = read_text(file)
        with_tools = read_text(tools_file) if tools_file is not None and file_there(tools_file) else None
    else:
        file = files.get(TOKENIZER_CONFIG)
        if file is None or not file_there(file):
            return None
        found = read_json_object(file).get(KEY)
    if isinstance(found, list):  # several named templates, for tools and so on
        named = {item.get("name"): item.get("template") for item in found if isinstance(item, dict)}
        found, with_tools = named.get(DEFAULT), named.get(WITH_TOOLS)
    if found is None:
        return None
    for text in (found, with_tools):
        if not isinstance(text, str | None):
            raise UserError(f"{KEY}: expected a text, found {type(text).__name__}", file)
    return found, with_tools, file


def read_chat_template(folder: Path, variables: Mapping[str, Any]) -> ChatTemplate | None:
    """The chat template in a tokenizer's folder; None if there is none.

    A damaged one is noted in `ChatTemplate.problem`: it stops only those who need it.
    """
    try:
        found = find_chat_template({name: folder / name for name in (JINJA_FILE, TOOLS_FILE, TOKENIZER_CONFIG)})
    except UserError as error:
        return ChatTemplate("", str(folder), problem=single_line(str(error), 300))
    return None if found is None else ChatTemplate(found[0], str(found[2]), found[1], variables)
