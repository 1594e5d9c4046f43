"""SmolLM3: Llama without rotary positions in every fourth layer (Hugging Face 2025)."""

from __future__ import annotations

from mindcoder.families.base import Family
from mindcoder.families.smollm3.gguf import FORM
from mindcoder.families.smollm3.huggingface import FIELDS, WEIGHTS
from mindcoder.families.smollm3.section import SmolLM3Section, network

FAMILY = Family(
    model_type="smollm3",
    class_prefix="SmolLM3",
    field_map=FIELDS,
    weights=WEIGHTS,
    section=SmolLM3Section,
    network=network,
    architectures={"SmolLM3Config": "SmolLM3ForCausalLM"},
    tokenizers=(),
    templates={},
    default_template="chatml",
    gguf=FORM,
)
