"""Granite 3 against transformers' GraniteForCausalLM with the same random weights."""

from __future__ import annotations

import pytest
from family_suite import FamilyTests

MULTIPLIERS = {"embedding_multiplier": 6.0, "attention_multiplier": 0.125, "residual_multiplier": 0.22}


class TestGranite(FamilyTests):
    family = "granite"
    variants = [
        pytest.param({**MULTIPLIERS, "logits_scaling": 8.0}, id="four multipliers"),
        pytest.param(
            {**MULTIPLIERS, "logits_scaling": 1.5, "tie_word_embeddings": True, "num_key_value_heads": 1},
            id="multi-query tied",
        ),
        pytest.param({}, id="multipliers of one"),
    ]
    refused = [
        ({"attention_bias": True}, "attention_bias true is not implemented"),
        ({"mlp_bias": True}, "mlp_bias true is not implemented"),
        ({"attention_multiplier": 0.0}, "attention_multiplier: expected a number above 0"),
        ({"logits_scaling": -1.0}, "logits_scaling: expected a number above 0"),
    ]
    sizes = {"granite_3_1_2b": 2.53, "granite_3_1_8b": 8.17}
