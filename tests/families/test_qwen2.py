"""Qwen2 against transformers' Qwen2ForCausalLM with the same random weights."""

from __future__ import annotations

import json
import re

import pytest
import transformers
from families import random_model
from family_suite import FamilyTests

from mindcoder.checkpoint.weights import open_weights
from mindcoder.config.load import load_config
from mindcoder.data.chat_template import chat_template
from mindcoder.data.conversation import Message, encode_conversation
from mindcoder.errors import UserError
from mindcoder.families.from_section import config_from_section
from mindcoder.families.registry import family_of
from mindcoder.generate.model import ModelRequest, open_model
from mindcoder.tokenizer.bpe import train_tokenizer

QWEN2 = family_of("qwen2")
WINDOW = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0}


class TestQwen2(FamilyTests):
    family = "qwen2"
    variants = [
        pytest.param({"rope_theta": 1e6}, id="grouped-query"),
        pytest.param({"num_key_value_heads": 4, "tie_word_embeddings": True}, id="multi-head tied"),
        pytest.param({"num_key_value_heads": 1, **WINDOW}, id="multi-query window"),
        pytest.param({"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "head_dim": 16}, id="linear head-dim"),
    ]
    refused = [
        ({"use_mrope": True}, "use_mrope true is not implemented"),
        ({"rotary_emb_base": 7.0}, "rotary_emb_base 7.0 is not implemented; expected 10000.0"),
    ]
    quick_gradients = ()  # those of Llama and of GPT-BigCode with its biases
    sizes = {
        "qwen2_5_coder_1_5b": 1.54,
        "qwen2_5_coder_3b": 3.09,
        "qwen2_5_coder_7b": 7.62,
        "qwen2_5_coder_32b": 32.76,
    }


def test_only_query_key_and_value_have_biases(hf_folder):
    _, decoder, _ = hf_folder("qwen2", layers=1)
    biases = {item.name.split(".")[-2] for item in decoder.get_parameters() if item.name.endswith("bias")}
    assert biases == {"query", "key", "value"}


@pytest.mark.parametrize(
    "changes, window",
    [
        ({"sliding_window": 131072, "max_window_layers": 21}, None),  # as published: there, but not used
        ({"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0}, None),
        ({"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 3}, None),
        ({"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 0}, 64),
        ({"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2}, "max_window_layers 2 of 3 layers"),
        ({"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "layer_types"),
    ],
)
def test_a_window_counts_where_it_is_used_and_is_refused_on_part_of_the_layers(changes, window):
    values = {"num_hidden_layers": 3, **changes}
    if isinstance(window, str):
        with pytest.raises(ValueError, match=window):
            QWEN2.config_from_huggingface(values)
        return
    assert QWEN2.config_from_huggingface(values).sliding_window == window
    if "layer_types" not in changes:
        kind = "full_attention" if window is None else "sliding_attention"
        assert transformers.Qwen2Config(**values).layer_types == [kind] * 3


def test_a_yaml_file_describes_the_network_of_config_json(tmp_path):
    file = tmp_path / "a.yaml"
    text = (
        "model: {model_config: {type: Qwen2Config, vocab_size: 131, hidden_size: 48, num_layers: 3, num_heads: 4, "
        "n_kv_heads: 2, intermediate_size: 112, max_position_embedding: 320, sliding_window: 16, theta: 1000000.0, "
        "tie_word_embeddings: True}, arch: {type: %s}}"
    )
    file.write_text(text % "Qwen2ForCausalLM")
    network = config_from_section(load_config(file)[0].model.settings)
    random_model("qwen2", tie_word_embeddings=True, rope_theta=1e6, **WINDOW).save_pretrained(tmp_path / "theirs")
    assert network.architecture() == open_weights(tmp_path / "theirs").config.architecture()
    file.write_text(text % "LlamaForCausalLM")
    with pytest.raises(UserError, match="found 'LlamaForCausalLM', expected 'Qwen2ForCausalLM' for Qwen2Config"):
        load_config(file)


def test_a_folder_is_asked_in_its_form_of_chatml_and_fills_gaps(tmp_path):
    tokenizer = train_tokenizer(["def add(a, b): return a + b"], 400)
    tokenizer.save(tmp_path)
    file, settings = tmp_path / "tokenizer.json", tmp_path / "tokenizer_config.json"
    text = re.sub("<(fim_[a-z]+)>", r"<|\1|>", file.read_text())  # Qwen's special tokens in place of StarCoder's
    file.write_text(text.replace("<filename>", "<|im_start|>").replace("<gh_stars>", "<|im_end|>"))
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "eos_token": "<|im_end|>"}))
    random_model("qwen2", layers=1, vocab_size=tokenizer.vocab_size).save_pretrained(tmp_path)
    model = open_model(ModelRequest(str(tmp_path), max_length=300))
    assert model.template == "qwen2.5-instruct" and model.tokenizer.special.eos == "<|im_end|>"
    ids = encode_conversation(
        [Message("user", "a"), Message("assistant", "b"), Message("user", "c")], model.template, model.tokenizer
    )
    assert model.tokenizer.decode(ids) == (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "You are Qwen" in (chat_template(model.template, False) or "")
    prompt = model.tokenizer.decode(model.tokenizer.encode_infill("a", "b"))
    assert prompt == "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"
