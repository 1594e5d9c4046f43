"""All prompt templates by name: those of the families, and two that belong to none."""

from __future__ import annotations

from mindcoder.families.prompt_template import PromptTemplate, chatml
from mindcoder.families.registry import FAMILIES

PLAIN = "plain"
TEMPLATES: dict[str, PromptTemplate] = {
    **{name: template for family in FAMILIES.values() for name, template in family.templates.items()},
    "chatml": chatml("github.com/openai/openai-python, chatml.md of 2023; models with ChatML and no introduction"),
    PLAIN: PromptTemplate("{instruction}", "{instruction}\n{input}", "base models: the text as it is"),
}
