"""Granite 3 against transformers' GraniteForCausalLM with the same random weights."""

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

GRANITE = family_of("granite")
VARIANTS = [
    pytest.param(
        {
            "embedding_multiplier": 6.0,
            "attention_multiplier": 0.125,
            "residual_multiplier": 0.22,
            "logits_scaling": 8.0,
        },
        id="four multipliers",
    ),
    pytest.param(
        {
            "embedding_multiplier": 6.0,
            "attention_multiplier": 0.125,
            "residual_multiplier": 0.22,
            "logits_scaling": 1.5,
            "tie_word_embeddings": True,
            "num_key_value_heads": 1,
        },
        id="multi-query tied",
    ),
    pytest.param({}, id="multipliers of one"),
]


@pytest.mark.parametrize("overrides", long_but(VARIANTS, 0))
def test_logits_loss_and_gradients_equal_huggingface(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("granite", layers=2, **overrides)
    check_logits_loss_and_gradients(model, decoder, rng)


@pytest.mark.parametrize("overrides", long_but(VARIANTS, 0))
def test_greedy_tokens_equal_huggingface_on_a_ragged_batch(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("granite", **overrides)
    check_greedy_tokens(model, decoder, rng, new_tokens=40)


@pytest.mark.long
@pytest.mark.parametrize("overrides", VARIANTS)
def test_200_greedy_tokens_equal_huggingface(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("granite", **overrides)
    check_greedy_tokens(model, decoder, rng, new_tokens=200)


@pytest.mark.long
def test_recomputation_gives_the_same_gradients(hf_folder, rng):
    model, decoder, _ = hf_folder("granite", layers=2, **VARIANTS[0].values[0])
    check_logits_loss_and_gradients(model, decoder, rng, recompute=True)


@pytest.mark.parametrize("overrides", VARIANTS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_weights_and_config_json_survive_the_way_there_and_back(dtype, overrides, tmp_path):
    check_every_weight_comes_back("granite", dtype, tmp_path, **overrides)


def test_defaults_are_those_of_transformers():
    check_defaults("granite")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"attention_bias": True}, "attention_bias true is not implemented"),
        ({"mlp_bias": True}, "mlp_bias true is not implemented"),
        ({"attention_multiplier": 0.0}, "attention_multiplier: expected a number above 0"),
        ({"logits_scaling": -1.0}, "logits_scaling: expected a number above 0"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message):
        GRANITE.config_from_huggingface(fields)


SIZES = [("granite_3_1_2b", 2.53), ("granite_3_1_8b", 8.17)]


@pytest.mark.parametrize("name, billions", SIZES)
def test_published_sizes_have_the_published_number_of_parameters(name, billions):
    check_published_size(name, billions)
