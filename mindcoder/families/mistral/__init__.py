"""Mistral, Mathstral, Codestral, Devstral: Llama with a sliding window in the first version (Jiang et al. 2023)."""

from __future__ import annotations

from mindcoder.families.base import Family
from mindcoder.families.mistral.gguf import FORM
from mindcoder.families.mistral.huggingface import FIELDS, WEIGHTS
from mindcoder.families.mistral.section import MistralSection, network

FAMILY = Family(
    model_type="mistral",
    class_prefix="Mistral",
    field_map=FIELDS,
    weights=WEIGHTS,
    section=MistralSection,
    network=network,
    architectures={"MistralConfig": "MistralForCausalLM"},
    tokenizers=(),
    templates={},
    default_template="mistral-instruct",
    gguf=FORM,
)
