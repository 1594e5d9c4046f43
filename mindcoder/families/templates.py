"""All prompt templates by name: those of the families, those that belong to none, and the name of a model's own."""

from __future__ import annotations

from mindcoder.families.instruct_templates import INSTRUCT_TEMPLATES
from mindcoder.families.prompt_template import PromptTemplate, chatml
from mindcoder.families.registry import FAMILIES

PLAIN = "plain"
OWN = "chat_template"  # the Jinja template that lies with a model's tokenizer; it has a name here, no text
TEMPLATES: dict[str, PromptTemplate] = {
    **{name: template for family in FAMILIES.values() for name, template in family.templates.items()},
    **INSTRUCT_TEMPLATES,
    "chatml": chatml("github.com/openai/openai-python, chatml.md of 2023; models with ChatML and no introduction"),
    PLAIN: PromptTemplate("{instruction}", "{instruction}\n{input}", "base models: the text as it is"),
}
TEMPLATE_NAMES = (*TEMPLATES, OWN)
