"""StarCoder2 against transformers' Starcoder2ForCausalLM with the same random weights."""

from __future__ import annotations

import pytest
from families import check_greedy_tokens, check_logits_loss_and_gradients, long_but

VARIANTS = [
    pytest.param({}, id="grouped-query tied"),
    pytest.param({"sliding_window": 16, "tie_word_embeddings": False}, id="window untied"),
    pytest.param({"num_key_value_heads": 4, "use_bias": False}, id="multi-head no-bias"),
    pytest.param({"num_key_value_heads": 1, "rope_theta": 100000.0}, id="multi-query theta"),
]


@pytest.mark.parametrize("overrides", long_but(VARIANTS, 0, 1))
def test_logits_loss_and_gradients_equal_huggingface(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("starcoder2", layers=1, **overrides)
    check_logits_loss_and_gradients(model, decoder, rng)


@pytest.mark.parametrize("overrides", VARIANTS[:2])
def test_greedy_tokens_equal_huggingface_on_a_ragged_batch(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("starcoder2", **overrides)
    check_greedy_tokens(model, decoder, rng)


def test_recomputation_gives_the_same_gradients(hf_folder, rng):
    model, decoder, _ = hf_folder("starcoder2", layers=2, sliding_window=16)
    check_logits_loss_and_gradients(model, decoder, rng, recompute=True)
