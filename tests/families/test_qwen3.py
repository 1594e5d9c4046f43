"""Qwen3 against transformers' Qwen3ForCausalLM with the same random weights."""

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

QWEN3 = family_of("qwen3")
VARIANTS = [
    pytest.param({"head_dim": 24, "rope_theta": 1e6}, id="grouped-query head-dim"),
    pytest.param({"head_dim": 16, "num_key_value_heads": 4, "tie_word_embeddings": True}, id="multi-head tied"),
    pytest.param(
        {
            "head_dim": 12,
            "num_key_value_heads": 1,
            "use_sliding_window": True,
            "sliding_window": 16,
            "max_window_layers": 0,
        },
        id="multi-query window",
    ),
    pytest.param({"head_dim": 16, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}, id="linear"),
]


@pytest.mark.parametrize("overrides", long_but(VARIANTS, 0))
def test_logits_loss_and_gradients_equal_huggingface(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("qwen3", layers=2, **overrides)
    check_logits_loss_and_gradients(model, decoder, rng)


@pytest.mark.parametrize("overrides", long_but(VARIANTS, 0))
def test_greedy_tokens_equal_huggingface_on_a_ragged_batch(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("qwen3", **overrides)
    check_greedy_tokens(model, decoder, rng, new_tokens=40)


@pytest.mark.long
@pytest.mark.parametrize("overrides", VARIANTS)
def test_200_greedy_tokens_equal_huggingface(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("qwen3", **overrides)
    check_greedy_tokens(model, decoder, rng, new_tokens=200)


@pytest.mark.long
def test_recomputation_gives_the_same_gradients(hf_folder, rng):
    model, decoder, _ = hf_folder("qwen3", layers=2, **VARIANTS[0].values[0])
    check_logits_loss_and_gradients(model, decoder, rng, recompute=True)


@pytest.mark.parametrize("overrides", VARIANTS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_weights_and_config_json_survive_the_way_there_and_back(dtype, overrides, tmp_path):
    check_every_weight_comes_back("qwen3", dtype, tmp_path, **overrides)


def test_defaults_are_those_of_transformers():
    check_defaults("qwen3")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"attention_bias": True}, "attention_bias true is not implemented"),
        (
            {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2},
            "max_window_layers 2 of 32 layers",
        ),
        ({"rope_scaling": {"rope_type": "ntk", "factor": 4.0}}, "rope_type 'ntk' is not implemented"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message):
        QWEN3.config_from_huggingface(fields)


@pytest.mark.parametrize(
    "name, billions",
    [
        ("qwen3_0_6b", 0.6),
        ("qwen3_1_7b", 1.72),
        ("qwen3_4b", 4.02),
        ("qwen3_8b", 8.19),
        ("qwen3_14b", 14.77),
        ("qwen3_32b", 32.76),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(name, billions):
    check_published_size(name, billions)
