"""Qwen3 against transformers' Qwen3ForCausalLM with the same random weights."""

from __future__ import annotations

import pytest
from family_suite import FamilyTests

WINDOW = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0}
NTK = {"rope_type": "ntk", "factor": 4.0}


class TestQwen3(FamilyTests):
    family = "qwen3"
    variants = [
        pytest.param({"head_dim": 24, "rope_theta": 1e6}, id="grouped-query head-dim"),
        pytest.param({"head_dim": 16, "num_key_value_heads": 4, "tie_word_embeddings": True}, id="multi-head tied"),
        pytest.param({"head_dim": 12, "num_key_value_heads": 1, **WINDOW}, id="multi-query window"),
        pytest.param({"head_dim": 16, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}, id="linear"),
    ]
    refused = [
        ({"attention_bias": True}, "attention_bias true is not implemented"),
        (
            {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2},
            "max_window_layers 2 of 32 layers",
        ),
        ({"rope_scaling": NTK}, "rope_type 'ntk' is not implemented"),
    ]
    sizes = {
        "qwen3_0_6b": 0.6,
        "qwen3_1_7b": 1.72,
        "qwen3_4b": 4.02,
        "qwen3_8b": 8.19,
        "qwen3_14b": 14.77,
        "qwen3_32b": 32.76,
    }
