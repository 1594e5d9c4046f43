"""Stored descriptions of networks, today's and those of older versions."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from families import random_model

from mindcoder.checkpoint.convert import ConvertRequest, convert
from mindcoder.checkpoint.load import check_architecture
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError
from mindcoder.families.registry import FAMILIES, family_of
from mindcoder.families.transformer_config import TransformerConfig, config_from_dict


def network(**fields) -> TransformerConfig:
    """A small network of the Llama family."""
    return replace(family_of("llama").config_from_huggingface({"num_hidden_layers": 1}), **fields)


def before(values: dict) -> dict:
    """A stored description as versions wrote it that had one field for the attention's biases."""
    old = dict(values)
    biased = old.pop("qkv_bias")
    assert old.pop("output_bias") == biased
    return {**old, "attention_bias": biased}


@pytest.mark.parametrize("biased", [False, True])
def test_descriptions_of_older_versions_are_read(biased):
    config = network(qkv_bias=biased, output_bias=biased)
    assert config_from_dict(asdict(config)) == config
    assert config_from_dict(before(asdict(config))) == config
    assert config_from_dict(before(config.architecture())).architecture() == config.architecture()
    check_architecture({"architecture": before(config.architecture())}, config, "old")
    other = replace(config, output_bias=not biased)
    with pytest.raises(UserError, match=f"of another shape: output_bias {biased} instead of {not biased}$"):
        check_architecture({"architecture": before(config.architecture())}, other, "old")


def test_a_folder_of_an_older_version_is_opened(tmp_path):
    random_model("llama", attention_bias=True).save_pretrained(tmp_path / "theirs")
    convert(ConvertRequest(str(tmp_path / "theirs"), tmp_path / "ours", show_progress=False))
    file = tmp_path / "ours" / "architecture.json"
    stored = json.loads(file.read_text())
    config = open_weights(tmp_path / "ours").config
    file.write_text(json.dumps({**stored, "config": before(stored["config"])}))
    weights = open_weights(tmp_path / "ours")
    assert weights.config == config and config.qkv_bias and config.output_bias
    assert set(weights.parameters()) == set(config.parameter_shapes())


def test_every_projection_has_the_bias_that_its_field_says():
    names = network(qkv_bias=True).parameter_shapes()
    assert {name.split(".")[-2] for name in names if name.endswith("bias")} == {"query", "key", "value"}
    names = network(output_bias=True).parameter_shapes()
    assert {name.split(".")[-2] for name in names if name.endswith("bias")} == {"output"}


def test_what_a_family_cannot_say_is_not_written():
    with pytest.raises(ValueError, match="one field for these, attention_bias: qkv_bias True, output_bias False"):
        family_of("llama").config_to_huggingface(network(qkv_bias=True))
    with pytest.raises(ValueError, match="gated_mlp is False; every Llama has True"):
        family_of("llama").config_to_huggingface(network(gated_mlp=False))


@pytest.mark.parametrize("model_type", FAMILIES)
def test_config_json_is_read_as_it_was_written(model_type):
    family = family_of(model_type)
    for values in ({}, {"vocab_size": 131, "tie_word_embeddings": True, "pad_token_id": 7}):
        config = family.config_from_huggingface(values)
        assert family.config_from_huggingface(family.config_to_huggingface(config)) == config
