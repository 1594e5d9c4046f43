"""Prompts: instructions in one of the templates."""

from __future__ import annotations

from mindcoder.families.templates import PLAIN, TEMPLATES

__all__ = ["DEFAULT_TEMPLATE", "PLAIN", "TEMPLATES", "build_prompt"]

DEFAULT_TEMPLATE = "wizardcoder"


def build_prompt(instruction: str, input_text: str = "", template: str = DEFAULT_TEMPLATE) -> str:
    """The prompt up to the beginning of the answer.

    Raises:
        KeyError: no such template.
    """
    return TEMPLATES[template].fill(instruction, input_text)
