"""Phi-3 against transformers' Phi3ForCausalLM with the same random weights."""

from __future__ import annotations

import numpy as np
import peft
import pytest
from families import VOCAB, check_logits_loss_and_gradients, long_but, random_model
from family_suite import FamilyTests

import mindcoder
from mindcoder.checkpoint.weights import open_weights
from mindcoder.config.load import load_config
from mindcoder.errors import UserError
from mindcoder.families.from_section import config_from_section
from mindcoder.families.registry import family_of
from mindcoder.generate.speculative import SpeculativeDecoder

VARIANTS = [
    pytest.param(
        {
            "pad_token_id": None,
            "num_attention_heads": 3,
            "num_key_value_heads": 3,
            "partial_rotary_factor": 0.75,
            "sliding_window": 16,
        },
        id="partial rotary, window",
    ),
    pytest.param({"pad_token_id": None, "tie_word_embeddings": True}, id="grouped-query tied"),
    pytest.param(
        {
            "pad_token_id": None,
            "num_key_value_heads": 4,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": [1.0 + 0.1 * i for i in range(6)],
                "long_factor": [2.0 + i for i in range(6)],
            },
            "max_position_embeddings": 320,
            "original_max_position_embeddings": 64,
        },
        id="longrope",
    ),
    pytest.param(
        {
            "pad_token_id": None,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "partial_rotary_factor": 0.5,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": [1.0 + 0.1 * i for i in range(4)],
                "long_factor": [2.0 + i for i in range(4)],
            },
            "max_position_embeddings": 320,
            "original_max_position_embeddings": 64,
        },
        id="longrope, partial rotary",
    ),
]


class TestPhi3(FamilyTests):
    family = "phi3"
    variants = VARIANTS
    refused = [
        ({"attention_bias": True}, "attention_bias true is not implemented"),
        ({"partial_rotary_factor": 1.5}, "partial_rotary_factor: expected a number above 0"),
        (
            {"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}},
            "short_factors: expected 48 numbers, found 1",
        ),
        (
            {"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 48}},
            "rope_scaling.long_factor: expected a list of numbers, found null",
        ),
    ]
    sizes = {"phi3_mini_4k": 3.82, "phi3_medium_4k": 13.96, "phi4_14b": 14.66, "phi4_mini": 3.84}


@pytest.mark.parametrize("overrides", long_but(VARIANTS[2:], 0))
def test_longrope_beyond_the_original_length(overrides, hf_folder, rng):
    """Texts of 80 tokens, 64 of which are the original context: all take the long factors, in training too."""
    model, decoder, _ = hf_folder("phi3", layers=2, **overrides)
    check_logits_loss_and_gradients(model, decoder, rng, length=80)


def test_an_adapter_of_peft_on_fused_matrices_is_merged_as_by_peft(tmp_path):
    model = random_model("phi3", **VARIANTS[0].values[0])
    model.save_pretrained(tmp_path / "base")
    modules = ["qkv_proj", "gate_up_proj", "o_proj"]
    config = peft.LoraConfig(r=4, target_modules=modules, init_lora_weights=False, task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    adapted.save_pretrained(tmp_path / "adapter")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    expected, found = (open_weights(tmp_path / name).parameters() for name in ("merged", "adapter"))
    assert set(found) == set(expected)
    for name, plan in expected.items():
        np.testing.assert_allclose(found[name].read(), plan.read(), atol=1e-6, err_msg=name)


@pytest.mark.parametrize("method", ["w8a16", "w4a16"])
def test_fused_matrices_are_quantized_as_they_are(method, tmp_path):
    sizes = {"hidden_size": 96, "intermediate_size": 128, "num_attention_heads": 3, "num_key_value_heads": 3}
    random_model("phi3", **sizes, partial_rotary_factor=0.5, pad_token_id=None).save_pretrained(tmp_path / "hf")
    mindcoder.quantize(tmp_path / "hf", tmp_path / "q", method=method, group_size=32, progress=False)
    before, after = (open_weights(tmp_path / name).parameters() for name in ("hf", "q"))
    for name, plan in before.items():
        weight, found = plan.read(), after[name].read()
        error = np.linalg.norm(found - weight) / np.linalg.norm(weight)
        linear = ".attention." in name or ".mlp." in name
        assert 0 < error < {"w8a16": 0.01, "w4a16": 0.12}[method] if linear else error == 0, (name, error)


def test_a_yaml_file_says_longrope(tmp_path):
    file, keys = tmp_path / "a.yaml", {"short_factor": [1.0] * 6, "long_factor": [2.0] * 6}
    text = (
        "model: {model_config: {type: Phi3Config, hidden_size: 48, num_layers: 3, num_heads: 4, seq_length: 320, "
        "original_max_position_embeddings: 64, rms_norm_eps: 1.0e-05, %s}}"
    )
    file.write_text(text % ", ".join(f"{name}: {values}" for name, values in keys.items()))
    network = config_from_section(load_config(file)[0].model.settings)
    folder = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 320}
    folder |= {"original_max_position_embeddings": 64, "rope_scaling": {"type": "longrope", **keys}}
    assert network.architecture() == family_of("phi3").config_from_huggingface(folder).architecture()
    file.write_text(text % f"short_factor: {keys['short_factor']}")
    with pytest.raises(UserError, match="longrope needs short_factor and long_factor, found one of them"):
        load_config(file)


def test_a_draft_model_and_longrope_beyond_the_original_length_are_refused(hf_folder):
    _, decoder, _ = hf_folder("phi3", **VARIANTS[2].values[0])
    SpeculativeDecoder(decoder, decoder, 64, (), VOCAB)
    with pytest.raises(UserError, match="the model has longrope, whose keys change at 64 tokens"):
        SpeculativeDecoder(decoder, decoder, 65, (), VOCAB)
