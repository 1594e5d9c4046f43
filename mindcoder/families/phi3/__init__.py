"""Phi-3, Phi-3.5 and Phi-4: Llama with fused projections (Abdin et al. 2024)."""

from __future__ import annotations

from mindcoder.families.base import Family
from mindcoder.families.phi3.gguf import FORM
from mindcoder.families.phi3.huggingface import FIELDS, WEIGHTS
from mindcoder.families.phi3.section import Phi3Section, network

FAMILY = Family(
    model_type="phi3",
    class_prefix="Phi3",
    field_map=FIELDS,
    weights=WEIGHTS,
    section=Phi3Section,
    network=network,
    architectures={"Phi3Config": "Phi3ForCausalLM"},
    tokenizers=(),
    templates={},
    default_template="plain",
    gguf=FORM,
)
