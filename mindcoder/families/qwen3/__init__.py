"""Qwen3's dense models: Qwen2 without biases and with an RMS norm of every query and key head (Yang et al. 2025)."""

from __future__ import annotations

from mindcoder.families.base import Family
from mindcoder.families.qwen3.gguf import FORM
from mindcoder.families.qwen3.huggingface import FIELDS, WEIGHTS
from mindcoder.families.qwen3.section import Qwen3Section, network

FAMILY = Family(
    model_type="qwen3",
    class_prefix="Qwen3",
    field_map=FIELDS,
    weights=WEIGHTS,
    section=Qwen3Section,
    network=network,
    architectures={"Qwen3Config": "Qwen3ForCausalLM"},
    tokenizers=(),
    templates={},
    default_template="chatml",
    gguf=FORM,
)
