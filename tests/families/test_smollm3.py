"""SmolLM3 against transformers' SmolLM3ForCausalLM with the same random weights."""

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

SMOLLM3 = family_of("smollm3")
VARIANTS = [
    pytest.param({"no_rope_layer_interval": 2, "pad_token_id": None}, id="every second layer"),
    pytest.param(
        {"no_rope_layers": [0, 1, 1], "tie_word_embeddings": False, "pad_token_id": None}, id="a list, untied"
    ),
    pytest.param({"num_key_value_heads": 1, "pad_token_id": None}, id="none"),
]


@pytest.mark.parametrize("overrides", long_but(VARIANTS, 0))
def test_logits_loss_and_gradients_equal_huggingface(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("smollm3", layers=3, **overrides)
    check_logits_loss_and_gradients(model, decoder, rng)


@pytest.mark.parametrize("overrides", long_but(VARIANTS, 0))
def test_greedy_tokens_equal_huggingface_on_a_ragged_batch(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("smollm3", **overrides)
    check_greedy_tokens(model, decoder, rng, new_tokens=40)


@pytest.mark.long
@pytest.mark.parametrize("overrides", VARIANTS)
def test_200_greedy_tokens_equal_huggingface(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("smollm3", **overrides)
    check_greedy_tokens(model, decoder, rng, new_tokens=200)


@pytest.mark.long
def test_recomputation_gives_the_same_gradients(hf_folder, rng):
    model, decoder, _ = hf_folder("smollm3", layers=2, **VARIANTS[0].values[0])
    check_logits_loss_and_gradients(model, decoder, rng, recompute=True)


@pytest.mark.parametrize("overrides", VARIANTS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_weights_and_config_json_survive_the_way_there_and_back(dtype, overrides, tmp_path):
    check_every_weight_comes_back("smollm3", dtype, tmp_path, **overrides)


def test_defaults_are_those_of_transformers():
    check_defaults("smollm3")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"use_sliding_window": True, "sliding_window": 5}, "use_sliding_window true is not implemented"),
        ({"no_rope_layers": [1, 0]}, "no_rope_layers: expected 0 or 1 for each of 36 layers"),
        ({"attention_bias": True}, "attention_bias true is not implemented"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message):
        SMOLLM3.config_from_huggingface(fields)


SIZES = [("smollm3_3b", 3.08)]


@pytest.mark.parametrize("name, billions", SIZES)
def test_published_sizes_have_the_published_number_of_parameters(name, billions):
    check_published_size(name, billions)
