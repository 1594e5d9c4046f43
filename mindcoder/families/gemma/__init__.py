"""Gemma and CodeGemma: GEGLU, norms around one, scaled embeddings (Gemma Team 2024; CodeGemma Team 2024)."""

from __future__ import annotations

from mindcoder.families.base import Family
from mindcoder.families.gemma.gguf import FORM
from mindcoder.families.gemma.huggingface import FIELDS, WEIGHTS
from mindcoder.families.gemma.section import GemmaSection, network

FAMILY = Family(
    model_type="gemma",
    class_prefix="Gemma",
    field_map=FIELDS,
    weights=WEIGHTS,
    section=GemmaSection,
    network=network,
    architectures={"GemmaConfig": "GemmaForCausalLM"},
    tokenizers=(),
    templates={},
    default_template="plain",
    gguf=FORM,
)
