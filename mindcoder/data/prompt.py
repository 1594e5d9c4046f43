"""Prompt templates, each as the published model was trained with it."""

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
        system: form of a system message (with the tools at its end, if any) before the first question. It replaces the
            introduction of templates that have one.
        system_is_inside: whether it goes inside the question's markers rather than before them.
        turns_begin_anew: whether every question begins like the first one, with the beginning-of-text token if the
            model has one.
    """

    without_input: str
    with_input: str
    source: str
    before_answer: str = ""
    system: str = "{system}\n\n"
    system_is_inside: bool = False
    turns_begin_anew: bool = False

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
        mark = text.find(TURN_MARK) if TURN_MARK in self.without_input else -1
        if mark < 0:
            return opening + text
        if not is_first:
            return "\n\n" + text[mark:]
        return (opening or text[:mark]) + text[mark:]


PLAIN = "plain"
TURN_MARK = "### Instruction"  # beginning of a question in templates with an introduction
_STARCODER2_SYSTEM = (
    "You are an exceptionally intelligent coding assistant that consistently delivers accurate and reliable "
    "responses to user instructions.\n\n"
)

TEMPLATES = {
    "wizardcoder": PromptTemplate(
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Response:",
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:",
        "github.com/nlpxucan/WizardLM, WizardCoder/src (Alpaca's templates); WizardCoder and WizardCoder-Python",
    ),
    "starcoder2-instruct": PromptTemplate(
        _STARCODER2_SYSTEM + "### Instruction\n{instruction}\n\n### Response\n",
        _STARCODER2_SYSTEM + "### Instruction\n{instruction}\n\n{input}\n\n### Response\n",
        "model card of bigcode/starcoder2-15b-instruct-v0.1",
    ),
    "llama2-chat": PromptTemplate(
        "[INST] {instruction} [/INST]",
        "[INST] {instruction}\n\n{input} [/INST]",
        "github.com/meta-llama/llama, chat_completion; Llama 2 Chat and Code Llama Instruct",
        before_answer=" ",
        system="<<SYS>>\n{system}\n<</SYS>>\n\n",
        system_is_inside=True,
        turns_begin_anew=True,
    ),
    PLAIN: PromptTemplate("{instruction}", "{instruction}\n{input}", "base models: the text as it is"),
}
DEFAULT_TEMPLATE = "wizardcoder"


def build_prompt(instruction: str, input_text: str = "", template: str = DEFAULT_TEMPLATE) -> str:
    """The prompt up to the beginning of the answer.

    Raises:
        KeyError: no such template.
    """
    return TEMPLATES[template].fill(instruction, input_text)
