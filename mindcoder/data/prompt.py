"""Prompt templates of all families, and the plain one of base models."""

from __future__ import annotations

from mindcoder.families.prompt_template import PromptTemplate
from mindcoder.families.registry import FAMILIES

PLAIN = "plain"
TEMPLATES: dict[str, PromptTemplate] = {
    **{name: template for family in FAMILIES.values() for name, template in family.templates.items()},
    PLAIN: PromptTemplate("{instruction}", "{instruction}\n{input}", "base models: the text as it is"),
}
DEFAULT_TEMPLATE = "wizardcoder"


def build_prompt(instruction: str, input_text: str = "", template: str = DEFAULT_TEMPLATE) -> str:
    """The prompt up to the beginning of the answer.

    Raises:
        KeyError: no such template.
    """
    return TEMPLATES[template].fill(instruction, input_text)
