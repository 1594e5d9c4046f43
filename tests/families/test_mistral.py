"""Mistral against transformers' MistralForCausalLM with the same random weights."""

from __future__ import annotations

import pytest
from families import (
    check_defaults,
    check_every_weight_comes_back,
    check_greedy_tokens,
    check_logits_loss_and_gradients,
    check_published_size,
    long_but,
)

from mindcoder.families.registry import family_of

MISTRAL = family_of("mistral")
VARIANTS = [
    pytest.param({"sliding_window": 16, "rms_norm_eps": 1e-5}, id="window"),
    pytest.param({"sliding_window": None, "head_dim": 24, "rope_theta": 1e6}, id="head-dim without window"),
    pytest.param({"sliding_window": None, "num_key_value_heads": 4, "tie_word_embeddings": True}, id="multi-head tied"),
]


@pytest.mark.parametrize("overrides", long_but(VARIANTS, 0))
def test_logits_loss_and_gradients_equal_huggingface(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("mistral", layers=2, **overrides)
    check_logits_loss_and_gradients(model, decoder, rng)


@pytest.mark.parametrize("overrides", long_but(VARIANTS, 0))
def test_greedy_tokens_equal_huggingface_on_a_ragged_batch(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("mistral", **overrides)
    check_greedy_tokens(model, decoder, rng, new_tokens=40)


@pytest.mark.long
@pytest.mark.parametrize("overrides", VARIANTS)
def test_200_greedy_tokens_equal_huggingface(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("mistral", **overrides)
    check_greedy_tokens(model, decoder, rng, new_tokens=200)


@pytest.mark.long
def test_recomputation_gives_the_same_gradients(hf_folder, rng):
    model, decoder, _ = hf_folder("mistral", layers=2, **VARIANTS[0].values[0])
    check_logits_loss_and_gradients(model, decoder, rng, recompute=True)


@pytest.mark.parametrize("overrides", VARIANTS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_weights_and_config_json_survive_the_way_there_and_back(dtype, overrides, tmp_path):
    check_every_weight_comes_back("mistral", dtype, tmp_path, **overrides)


def test_defaults_are_those_of_transformers():
    check_defaults("mistral")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"attention_bias": True}, "attention_bias true is not implemented"),
        ({"layer_types": ["full_attention", "sliding_attention"], "num_hidden_layers": 2}, "layer_types"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message):
        MISTRAL.config_from_huggingface(fields)


@pytest.mark.parametrize(
    "name, billions",
    [("mistral_7b_v0_1", 7.24), ("mistral_7b_v0_3", 7.25), ("codestral_22b", 22.25), ("devstral_24b", 23.57)],
)
def test_published_sizes_have_the_published_number_of_parameters(name, billions):
    check_published_size(name, billions)
