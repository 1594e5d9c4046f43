"""Models whose architecture is that of another family: their sizes."""

from __future__ import annotations

import re

import pytest
from conftest import REPOSITORY
from families import check_published_size

from mindcoder.config.load import load_config
from mindcoder.families.from_section import config_from_section

BILLIONS = {
    "deepseek_coder_1_3b": 1.35,
    "deepseek_coder_6_7b": 6.74,
    "deepseek_coder_33b": 33.34,
    "opencoder_1_5b": 1.91,
    "opencoder_8b": 7.77,
    "granite_code_3b": 3.48,
    "granite_code_8b": 8.05,
    "granite_code_20b": 20.07,
    "granite_code_34b": 33.72,
    "aixcoder_7b": 7.43,
    "yi_coder_1_5b": 1.48,
    "yi_coder_9b": 8.83,
    "seed_coder_8b": 8.25,
    "llama3_8b": 8.03,
    "llama3_1_8b": 8.03,
    "llama3_1_70b": 70.55,
    "llama3_2_1b": 1.24,
    "llama3_2_3b": 3.21,
    "smollm2_135m": 0.13,
    "smollm2_360m": 0.36,
    "smollm2_1_7b": 1.71,
    "codeqwen1_5_7b": 7.25,
    "qwen2_5_coder_0_5b": 0.49,
    "qwen2_5_coder_14b": 14.77,
}
SIZE = re.compile(r"# Sizes: .*; ([\d,]+) parameters\.\n(?:#.*\n)*(models/\w+):")


@pytest.mark.parametrize("name, billions", BILLIONS.items())
def test_published_sizes_have_the_published_number_of_parameters(name, billions):
    check_published_size(name, billions)


def test_comments_say_how_many_parameters_a_part_has():
    files = sorted((REPOSITORY / "configs" / "models").glob("*.yaml"))
    said = [match.groups() for file in files for match in SIZE.finditer(file.read_text(encoding="utf-8"))]
    assert len(said) > 40
    for count, name in said:
        network = config_from_section(load_config(name)[0].model.settings)
        assert network.num_parameters() == int(count.replace(",", "")), name


# Fields of published config.json files that decide how these models are read.
FOLDERS = {
    "DeepSeek-Coder 6.7B": (
        "deepseek_coder_6_7b",
        {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
        | {"num_key_value_heads": 32, "rope_theta": 100000, "rope_scaling": {"factor": 4.0, "type": "linear"}}
        | {"max_position_embeddings": 16384, "vocab_size": 32256, "rms_norm_eps": 1e-6, "bos_token_id": 32013}
        | {"eos_token_id": 32014, "tie_word_embeddings": False, "pretraining_tp": 1},
    ),
    "Granite Code 3B": (
        "granite_code_3b",
        {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 32, "num_attention_heads": 32}
        | {"num_key_value_heads": 32, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}
        | {"max_position_embeddings": 2048, "vocab_size": 49152, "rms_norm_eps": 1e-5, "rope_theta": 10000},
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_published_config_json_is_the_network_of_its_part(name):
    from mindcoder.families.registry import family_of

    part, values = FOLDERS[name]
    network = config_from_section(load_config(f"models/{part}")[0].model.settings)
    assert family_of("llama").config_from_huggingface(values).architecture() == network.architecture()
