"""The form of a prompt template; families have their own, each as the published model was trained with it."""

from __future__ import annotations

import re
from dataclasses import dataclass

PLACE = re.compile(r"\{(instruction|input)\}")


@dataclass(frozen=True)
class PromptTemplate:
    """Text around an instruction; the answer follows directly.

    Attributes:
        without_input, with_input: templates with ``{instruction}`` and ``{input}``.
        source: where the template is published.
        before_answer: between prompt and answer in training; at inference the model generates it itself.
        after_answer: between an answer and its end token, likewise.
        turn_mark: beginning of a question, after the introduction, if any; empty: the template has no form of several
            turns, or ``system_is_inside``.
        between: before a question that is not the first.
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
    after_answer: str = ""
    turn_mark: str = ""
    between: str = "\n\n"
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
        return PLACE.sub(lambda match: values[match[1]], template)

    def question(self, content: str, context: str = "", system: str = "", is_first: bool = True) -> str:
        """A question of a conversation, up to the beginning of its answer."""
        opening = self.system.replace("{system}", system) if system else ""
        if self.system_is_inside:
            return self.fill(opening + content, context)
        text = self.fill(content, context)
        if not self.turn_mark:
            return opening + text
        mark = text.index(self.turn_mark)
        if not is_first:
            return self.between + text[mark:]
        return (opening or text[:mark]) + text[mark:]


def chatml(source: str, introduction: str = "") -> PromptTemplate:
    """ChatML, OpenAI's form of conversations, which many families have: every turn between two marks.

    The end of an answer, ``<|im_end|>``, is the end token of these models' tokenizers.

    Args:
        introduction: system message where there is no other.
    """
    system = "<|im_start|>system\n{system}<|im_end|>\n"
    opening = system.replace("{system}", introduction) if introduction else ""
    question = "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    return PromptTemplate(
        opening + question.replace("{text}", "{instruction}"),
        opening + question.replace("{text}", "{instruction}\n\n{input}"),
        source,
        turn_mark="<|im_start|>user",
        between="\n",
        system=system,
        is_chat_template=True,
    )
