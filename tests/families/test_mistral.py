"""Mistral against transformers' MistralForCausalLM with the same random weights."""

from __future__ import annotations

import pytest
from family_suite import FamilyTests


class TestMistral(FamilyTests):
    family = "mistral"
    variants = [
        pytest.param({"sliding_window": 16, "rms_norm_eps": 1e-5}, id="window"),
        pytest.param({"sliding_window": None, "head_dim": 24, "rope_theta": 1e6}, id="head-dim without window"),
        pytest.param(
            {"sliding_window": None, "num_key_value_heads": 4, "tie_word_embeddings": True}, id="multi-head tied"
        ),
    ]
    refused = [
        ({"attention_bias": True}, "attention_bias true is not implemented"),
        ({"layer_types": ["full_attention", "sliding_attention"], "num_hidden_layers": 2}, "layer_types"),
    ]
    quick_gradients = ()  # those of Llama and of StarCoder2 with its window
    sizes = {"mistral_7b_v0_1": 7.24, "mistral_7b_v0_3": 7.25, "codestral_22b": 22.25, "devstral_24b": 23.57}
