"""GGUF files in transformers and in our engine: the same logits, the same token ids, the same answers.

transformers reads llama, qwen2, qwen3, phi3 and starcoder2; "starcoder" (GPT-BigCode) only llama.cpp would, which
cannot be built where these tests run.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from families import random_model, sentencepiece_model
from gguf_reference import small_config
from test_gguf_tokenizer import TOKENIZERS, texts
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Qwen2TokenizerFast

import mindcoder
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError
from mindcoder.tokenizer import load_tokenizer

IDS = [[1, 5, 250, 17, 33, 8, 120, 3]]


def save_random(folder, family, tokenizer="qwen2", **overrides):
    """A random model of rows of 256 with a tokenizer of 512 ids beside it."""
    config = small_config(family, **{"vocab_size": 512, **overrides})
    del config["model_type"]
    model = random_model(family, layers=2, **{"bos_token_id": 500, "eos_token_id": 502, "pad_token_id": 0, **config})
    model.save_pretrained(folder)
    TOKENIZERS[tokenizer]().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<|im_end|>", "bos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"})
    )
    return model


def logits_of(path, **options):
    model = mindcoder.load(path, max_length=64, device="CPU", **options)
    return model, model.logits(IDS)


@pytest.mark.parametrize(
    "family, kind",
    [
        ("llama", "f16"),
        ("llama", "q4_k_m"),
        ("qwen2", "q4_k_m"),
        ("starcoder2", "q4_k_m"),
        ("qwen3", "q4_k_m"),
        ("phi3", "q4_k_m"),
    ],
)
def test_transformers_reads_the_file_with_our_logits(family, kind, tmp_path):
    (tmp_path / "hf").mkdir()
    save_random(tmp_path / "hf", family, hidden_size=256, num_attention_heads=8)
    mindcoder.convert(tmp_path / "hf", tmp_path / "a.gguf", gguf_type=kind, progress=False)
    # A pad_token_id of its own: Phi-3's default, 32000, is outside of this vocabulary.
    config = AutoConfig.from_pretrained(tmp_path, gguf_file="a.gguf")
    config.pad_token_id = 0
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="a.gguf", config=config, dtype=torch.float32)
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(IDS)).logits.numpy()
    _, found = logits_of(tmp_path / "a.gguf")
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(expected).max() > 1  # logits of some size, so that the comparison says something


def test_starcoder_answers_as_the_model_it_was_made_from(tmp_path):
    """In float32 nothing may differ."""
    (tmp_path / "hf").mkdir()
    save_random(tmp_path / "hf", "gpt_bigcode", "gpt-2", n_embd=256, n_head=8)
    mindcoder.convert(tmp_path / "hf", tmp_path / "a.gguf", progress=False)
    original, expected = logits_of(tmp_path / "hf", template="plain")
    model, found = logits_of(tmp_path / "a.gguf", template="plain")
    assert np.array_equal(found, expected)
    answers = [item.generate("def f(x):", max_new_tokens=8).text for item in (original, model)]
    assert answers[0] == answers[1]


def test_ids_of_qwen2_are_those_of_transformers(tmp_path):
    (tmp_path / "hf").mkdir()
    save_random(tmp_path / "hf", "qwen2")
    mindcoder.convert(tmp_path / "hf", tmp_path / "a.gguf", progress=False)
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="a.gguf")
    assert isinstance(theirs, Qwen2TokenizerFast)
    ours = load_tokenizer(open_weights(tmp_path / "a.gguf").companions["tokenizer.json"])
    for text in texts():
        if "<tool>" not in text:  # its converter knows no added tokens but those of Qwen2
            assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], text


def test_ids_of_llama_are_those_of_transformers(tmp_path):
    (tmp_path / "hf").mkdir()
    save_random(tmp_path / "hf", "llama", vocab_size=904)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "hf" / name).unlink()
    (tmp_path / "hf" / "tokenizer.model").write_bytes(sentencepiece_model())
    mindcoder.convert(tmp_path / "hf", tmp_path / "a.gguf", progress=False)
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="a.gguf")
    ours = load_tokenizer(open_weights(tmp_path / "a.gguf").companions["tokenizer.json"])
    for text in texts():
        found = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text)[1:] == found, text


def test_folder_from_a_gguf_is_one_of_transformers(tmp_path):
    (tmp_path / "hf").mkdir()
    model = save_random(tmp_path / "hf", "llama", "llama-bpe")
    mindcoder.convert(tmp_path / "hf", tmp_path / "a.gguf", progress=False)
    mindcoder.convert(tmp_path / "a.gguf", tmp_path / "back", progress=False)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "back", dtype=torch.float32).eval()
    with torch.no_grad():
        logits = [item(torch.tensor(IDS)).logits for item in (again, model)]
    assert torch.allclose(*logits, atol=1e-5)
    assert all(torch.equal(*pair) for pair in zip(again.state_dict().values(), model.state_dict().values()))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "back")
    ours = load_tokenizer(tmp_path / "hf")
    for text in texts():
        assert tokenizer(text)["input_ids"] == ours.encode(text), text
    assert json.loads((tmp_path / "back" / "generation_config.json").read_text())["eos_token_id"] == [502]


def test_model_without_tokenizer_asks_for_one(tmp_path):
    (tmp_path / "hf").mkdir()
    save_random(tmp_path / "hf", "llama")
    (tmp_path / "hf" / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    done = mindcoder.convert(tmp_path / "hf", tmp_path / "a.gguf", progress=False)
    assert "no tokenizer lies with the weights" in done.notes[0]
    with pytest.raises(UserError, match=r"a\.gguf: has no tokenizer with it; name one with --tokenizer"):
        mindcoder.load(tmp_path / "a.gguf", device="CPU")
