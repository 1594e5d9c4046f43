"""Granite 3: Llama with four multipliers (IBM 2024)."""

from __future__ import annotations

from mindcoder.families.base import Family
from mindcoder.families.granite.gguf import FORM
from mindcoder.families.granite.huggingface import FIELDS, WEIGHTS
from mindcoder.families.granite.section import GraniteSection, network

FAMILY = Family(
    model_type="granite",
    class_prefix="Granite",
    field_map=FIELDS,
    weights=WEIGHTS,
    section=GraniteSection,
    network=network,
    architectures={"GraniteConfig": "GraniteForCausalLM"},
    tokenizers=(),
    templates={},
    default_template="granite-instruct",
    gguf=FORM,
)
