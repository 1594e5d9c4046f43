"""Gemma against transformers' GemmaForCausalLM with the same random weights."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from families import (
    check_defaults,
    check_every_weight_comes_back,
    check_greedy_tokens,
    check_logits_loss_and_gradients,
    check_published_size,
    long_but,
    random_model,
)

from mindcoder.checkpoint.convert import ConvertRequest, convert
from mindcoder.checkpoint.weights import open_weights
from mindcoder.families.registry import family_of

GEMMA = family_of("gemma")
VARIANTS = [
    pytest.param({"head_dim": 24, "num_key_value_heads": 1, "pad_token_id": None}, id="multi-query head-dim"),
    pytest.param({"head_dim": 16, "num_key_value_heads": 4, "pad_token_id": None}, id="multi-head"),
]


@pytest.mark.parametrize("overrides", long_but(VARIANTS, 0))
def test_logits_loss_and_gradients_equal_huggingface(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("gemma", layers=2, **overrides)
    check_logits_loss_and_gradients(model, decoder, rng)


@pytest.mark.parametrize("overrides", long_but(VARIANTS, 0))
def test_greedy_tokens_equal_huggingface_on_a_ragged_batch(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("gemma", **overrides)
    check_greedy_tokens(model, decoder, rng, new_tokens=40)


@pytest.mark.long
@pytest.mark.parametrize("overrides", VARIANTS)
def test_200_greedy_tokens_equal_huggingface(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder("gemma", **overrides)
    check_greedy_tokens(model, decoder, rng, new_tokens=200)


@pytest.mark.long
def test_recomputation_gives_the_same_gradients(hf_folder, rng):
    model, decoder, _ = hf_folder("gemma", layers=2, **VARIANTS[0].values[0])
    check_logits_loss_and_gradients(model, decoder, rng, recompute=True)


@pytest.mark.parametrize("overrides", VARIANTS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_weights_and_config_json_survive_the_way_there_and_back(dtype, overrides, tmp_path):
    check_every_weight_comes_back("gemma", dtype, tmp_path, **overrides)


def test_defaults_are_those_of_transformers():
    check_defaults("gemma")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"hidden_act": "silu"}, "hidden_act 'silu' is not implemented"),
        ({"attention_bias": True}, "attention_bias true is not implemented"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message):
        GEMMA.config_from_huggingface(fields)


def test_gguf_files_have_norms_around_one_and_the_names_of_llama_cpp(tmp_path):
    model = random_model("gemma", num_key_value_heads=1, head_dim=24, pad_token_id=None)
    model.save_pretrained(tmp_path / "hf")
    for source, target in (("hf", "a.gguf"), ("a.gguf", "back")):
        convert(ConvertRequest(str(tmp_path / source), tmp_path / target, show_progress=False))
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    stored = {tensor.name: np.asarray(tensor.data) for tensor in reader.tensors}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA, 3)
    weights = {name: value.numpy() for name, value in model.state_dict().items() if name != "lm_head.weight"}
    assert len(stored) == len(weights)
    for name, value in weights.items():
        base, _, part = name.rpartition(".")
        offset = np.float32(name.endswith("norm.weight"))
        np.testing.assert_array_equal(stored[f"{names.get_name(base)}.{part}"].reshape(value.shape), value + offset)
    assert reader.fields["gemma.attention.key_length"].contents() == 24
    expected, found = (open_weights(tmp_path / name) for name in ("hf", "back"))
    assert found.config.architecture() == expected.config.architecture()
    for name, plan in expected.parameters().items():
        np.testing.assert_allclose(found.parameters()[name].read(), plan.read(), atol=2e-7)


SIZES = [("codegemma_2b", 2.51), ("codegemma_7b", 8.54)]


@pytest.mark.parametrize("name, billions", SIZES)
def test_published_sizes_have_the_published_number_of_parameters(name, billions):
    check_published_size(name, billions)
