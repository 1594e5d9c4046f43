"""Prompt templates, each as the published model was trained with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PromptTemplate:
    """Text around an instruction; the answer follows directly.

    Attributes:
        without_input, with_input: ``{instruction}`` and ``{input}`` are filled in.
        source: where the template is published.
        before_answer: between prompt and answer in training; when asked, the model writes it itself.
    """

    without_input: str
    with_input: str
    source: str
    before_answer: str = ""

    def fill(self, instruction: str, input_text: str = "") -> str:
        """The prompt; the input section only where there is input."""
        template = self.with_input if input_text else self.without_input
        # not str.format: instructions hold braces
        return template.replace("{input}", "\0").replace("{instruction}", instruction).replace("\0", input_text)


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
    ),
    "plain": PromptTemplate("{instruction}", "{instruction}\n{input}", "base models: the text as it is"),
}
DEFAULT_TEMPLATE = "wizardcoder"


def build_prompt(instruction: str, input_text: str = "", template: str = DEFAULT_TEMPLATE) -> str:
    """The prompt up to where the answer begins.

    Raises:
        KeyError: no such template.
    """
    return TEMPLATES[template].fill(instruction, input_text)
