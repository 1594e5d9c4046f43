"""SmolLM3 against transformers' SmolLM3ForCausalLM with the same random weights."""

from __future__ import annotations

import pytest
from family_suite import FamilyTests


class TestSmolLM3(FamilyTests):
    family = "smollm3"
    variants = [
        pytest.param({"no_rope_layer_interval": 2, "pad_token_id": None}, id="every second layer"),
        pytest.param(
            {"no_rope_layers": [0, 1, 1], "tie_word_embeddings": False, "pad_token_id": None}, id="a list, untied"
        ),
        pytest.param({"num_key_value_heads": 1, "pad_token_id": None}, id="none"),
    ]
    refused = [
        ({"use_sliding_window": True, "sliding_window": 5}, "use_sliding_window true is not implemented"),
        ({"no_rope_layers": [1, 0]}, "no_rope_layers: expected 0 or 1 for each of 36 layers"),
        ({"attention_bias": True}, "attention_bias true is not implemented"),
    ]
    sizes = {"smollm3_3b": 3.08}
    layers = gradient_layers = 3  # the length of no_rope_layers above
    quick_gradients = ()  # those of Llama; only the forward pass is another one
