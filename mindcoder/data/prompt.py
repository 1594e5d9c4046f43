"""The Alpaca prompt templates WizardCoder was trained on (github.com/nlpxucan/WizardLM, WizardCoder/src)."""

from __future__ import annotations

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)


def build_prompt(instruction: str, input_text: str = "") -> str:
    """The prompt up to and including ``### Response:``; the input section only where there is input."""
    if input_text:
        return WITH_INPUT.format(instruction=instruction, input=input_text)
    return WITHOUT_INPUT.format(instruction=instruction)
