"""Llama against transformers' LlamaForCausalLM with the same random weights."""

from __future__ import annotations

import pytest
from families import check_greedy_tokens, check_logits_loss_and_gradients, check_packed_documents, long_but

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
VARIANTS = [
    pytest.param({"rope_theta": 1e6}, id="grouped-query code-llama"),
    pytest.param({"num_key_value_heads": 4, "tie_word_embeddings": True}, id="multi-head tied"),
    pytest.param({"num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True}, id="multi-query biases"),
    pytest.param({"rope_scaling": {"type": "linear", "factor": 4.0}, "head_dim": 16}, id="linear head-dim"),
    pytest.param(
        {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 32}, id="dynamic"
    ),
    pytest.param({"rope_scaling": LLAMA3}, id="llama3"),
]


@pytest.mark.parametrize("overrides", long_but(VARIANTS, 0, 2))
def test_logits_loss_and_gradients_equal_huggingface(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("llama", layers=2, **overrides)
    check_logits_loss_and_gradients(model, decoder, rng)


@pytest.mark.parametrize("overrides", [VARIANTS[index] for index in (0, 1, 3, 4, 5)])
def test_greedy_tokens_equal_huggingface_on_a_ragged_batch(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("llama", **overrides)
    check_greedy_tokens(model, decoder, rng)


def test_recomputation_gives_the_same_gradients(hf_folder, rng):
    model, decoder, _ = hf_folder("llama", layers=2)
    check_logits_loss_and_gradients(model, decoder, rng, recompute=True)


@pytest.mark.parametrize("family", ["llama", "starcoder2", "gpt_bigcode"])
def test_the_network_has_the_parameters_its_configuration_counts(family, hf_folder):
    model, decoder, _ = hf_folder(family)
    shapes = {item.name: tuple(item.shape) for item in decoder.get_parameters()}
    assert shapes == decoder.config.parameter_shapes()
    assert decoder.config.num_parameters() == sum(parameter.numel() for parameter in model.parameters())


def test_packed_documents_are_rotated_from_their_own_start(hf_folder, rng):
    check_packed_documents(hf_folder("llama", layers=1)[1], rng)
