"""Prompts: instructions in one of the templates."""

from __future__ import annotations

from mindcoder.families.templates import OWN, PLAIN, TEMPLATE_NAMES, TEMPLATES

__all__ = ["DEFAULT_TEMPLATE", "OWN", "PLAIN", "TEMPLATES", "TEMPLATE_NAMES", "build_prompt"]

DEFAULT_TEMPLATE = "wizardcoder"


def build_prompt(instruction: str, input_text: str = "", template: str = DEFAULT_TEMPLATE) -> str:
    """The prompt up to the beginning of the answer, in one of the named templates.

    `mindcoder.data.own_template.own_prompt` does the same with a model's own chat template.

    Raises:
        KeyError: no such template.
    """
    return TEMPLATES[template].fill(instruction, input_text)
