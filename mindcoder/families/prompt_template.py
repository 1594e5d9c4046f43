"""The form of a prompt template; families have their own, each as the published model was trained with it."""

from __future__ import annotations

import re
from dataclasses import dataclass

TURN_MARK = "### Instruction"  # beginning of a question in templates with an introduction
PLACE = re.compile(r"\{(instruction|input)\}")


@dataclass(frozen=True)
class PromptTemplate:
    """Text around an instruction; the answer follows directly.

    Attributes:
        without_input, with_input: templates with ``{instruction}`` and ``{input}``.
        source: where the template is published.
        before_answer: between prompt and answer in training; at inference the model generates it itself.
        system: form of a system message (with the tools at its end, if any) before the first question. It replaces the
            introduction of templates that have one.
        system_is_inside: whether it goes inside the question's markers rather than before them.
        turns_begin_anew: whether every question begins like the first one, with the beginning-of-text token if the
            model has one.
        is_chat_template: whether the published models' tokenizers have it as their ``chat_template``.
        strips_questions: whether that ``chat_template`` removes whitespace around a question.
    """

    without_input: str
    with_input: str
    source: str
    before_answer: str = ""
    system: str = "{system}\n\n"
    system_is_inside: bool = False
    turns_begin_anew: bool = False
    is_chat_template: bool = False
    strips_questions: bool = False

    def fill(self, instruction: str, input_text: str = "") -> str:
        """The prompt; the input section only if there is input."""
        template = self.with_input if input_text else self.without_input
        values = {"instruction": instruction, "input": input_text}
        # not str.format, because instructions contain braces
        return PLACE.sub(lambda place: values[place[1]], template)

    def question(self, content: str, context: str = "", system: str = "", is_first: bool = True) -> str:
        """A question of a conversation, up to the beginning of its answer."""
        opening = self.system.replace("{system}", system) if system else ""
        if self.system_is_inside:
            return self.fill(opening + content, context)
        text = self.fill(content, context)
        mark = text.find(TURN_MARK) if TURN_MARK in self.without_input else -1
        if mark < 0:
            return opening + text
        if not is_first:
            return "\n\n" + text[mark:]
        return (opening or text[:mark]) + text[mark:]
