"""`mindcoder.verify` and the verb: against transformers, converted and merged models, and what does not fit."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import yaml
from conftest import REPOSITORY, SAMPLES
from families import random_model
from transformers import AutoTokenizer, LlamaForCausalLM

import mindcoder
from mindcoder.cli.main import main
from mindcoder.compare.comparison import Comparison
from mindcoder.errors import UserError

LONG = (REPOSITORY / "tests" / "served.py").read_text()[:2400]  # what the tokenizer was trained on


def verify(a, b, data, **options) -> Comparison:
    return mindcoder.verify(a, b, data, device="CPU", progress=False, **options)


def nudged(source: Path, target: Path, amount: float) -> Path:
    """A Llama with other weights and the same tokenizer."""
    shutil.copytree(source, target)
    model = LlamaForCausalLM.from_pretrained(source)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * amount * parameter.std())
    model.save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def other(served_folder, tmp_path_factory) -> Path:
    return nudged(served_folder, tmp_path_factory.mktemp("other") / "other", 0.1)


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    """A short text, and one of several windows, of which one is longer than a chunk."""
    file = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("def add(a, b):", LONG)))
    return file


@pytest.fixture(scope="module")
def adapter(served_folder, tmp_path_factory) -> Path:
    """PEFT's LoRA on the served model."""
    folder = tmp_path_factory.mktemp("adapter") / "lora"
    model = peft.get_peft_model(
        LlamaForCausalLM.from_pretrained(served_folder),
        peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"]),
    )
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    model.save_pretrained(folder)
    return folder


def windows(folder: Path, length: int) -> list[list[int]]:
    """Token ids by transformers."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    for text in ("def add(a, b):", LONG):
        ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        found += [ids[begin : begin + length] for begin in range(0, len(ids), length)]
    return [ids for ids in found if len(ids) > 1]


def test_the_numbers_are_those_of_transformers_logits(served_folder, other, texts):
    models = [LlamaForCausalLM.from_pretrained(folder).eval() for folder in (served_folder, other)]
    parts = windows(served_folder, 300)
    assert max(map(len, parts)) == 300 and len(parts) > 3
    with torch.no_grad():
        a, b = (torch.cat([model(torch.tensor([ids])).logits[0, :-1] for ids in parts]).double() for model in models)
    targets = torch.tensor([token for ids in parts for token in ids[1:]])
    log_a, log_b = a.log_softmax(1), b.log_softmax(1)
    divergences = torch.nn.functional.kl_div(log_b, log_a, reduction="none", log_target=True).sum(1)

    found = verify(served_folder, other, texts, max_length=300)
    assert (found.texts, found.tokens, found.vocab_size) == (len(parts), len(targets), a.shape[1])
    assert found.max_difference == pytest.approx(float((a - b).abs().max()), abs=2e-4)
    assert found.mean_difference == pytest.approx(float((a - b).abs().mean()), rel=1e-4)
    assert found.kl == pytest.approx(float(divergences.mean()), rel=1e-4) and found.kl > 1e-3
    assert found.max_kl == pytest.approx(float(divergences.max()), rel=1e-3)
    assert found.agreement == pytest.approx(float((a.argmax(1) == b.argmax(1)).double().mean()), abs=2e-3)
    for logits, perplexity in ((a, found.perplexity_a), (b, found.perplexity_b)):
        assert perplexity == pytest.approx(math.exp(torch.nn.functional.cross_entropy(logits, targets)), rel=1e-5)
    first = found.first
    assert first is not None
    places = [(index, start) for index, ids in enumerate(parts) for start in range(1, len(ids))]
    row = next(row for row in range(len(targets)) if a[row].argmax() != b[row].argmax())
    assert (first.a.token, first.b.token) == (int(a[row].argmax()), int(b[row].argmax()))
    assert first.a.probability == pytest.approx(float(log_a[row].max().exp()), rel=1e-3)
    window, index = places[row]
    assert first.record == min(window, 1) and first.position == index + 300 * max(window - 1, 0)


def test_a_converted_model_says_the_same_and_a_rounded_one_almost(served_folder, texts, tmp_path, capsys):
    assert main(["convert", str(served_folder), str(tmp_path / "ours"), "--verify", str(texts)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "-> mindcoder" in printed[0] and printed[1].startswith("verify: top-1 agreement 100.000 % of ")
    assert "KL 0.00e+00 nats per token" in printed[1] and len(printed) == 2
    mindcoder.convert(served_folder, tmp_path / "half", to="huggingface", dtype="float16", progress=False)
    rounded = verify(served_folder, tmp_path / "half", texts)
    assert 0 < rounded.kl < 1e-4 and 0 < rounded.max_difference < 0.1


def test_a_ckpt_takes_its_architecture_and_tokenizer_from_the_other(served_folder, texts, tmp_path):
    mindcoder.convert(served_folder, tmp_path / "alone" / "llama.ckpt", progress=False)
    file = tmp_path / "alone" / "llama.ckpt"
    found = verify(file, served_folder, texts)
    assert (found.kl, found.max_difference, found.agreement, found.first) == (0.0, 0.0, 1.0, None)
    with pytest.raises(UserError, match="does not tell .*: put the model's config.json beside it"):
        verify(file, file, texts, tokenizer=served_folder)


def test_an_old_ckpt_is_opened_with_its_yaml(tmp_path, tokenizer_folder):
    sizes = {"vocab_size": 701, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 64, "n_positions": 256}
    random_model(**sizes).save_pretrained(tmp_path / "hf")
    mindcoder.convert(tmp_path / "hf", tmp_path / "old" / "wizardcoder.ckpt", progress=False)
    assert not list((tmp_path / "old").glob("*.json"))
    network = {
        "vocab_size": 701,
        "pad_token_id": 700,
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "intermediate_size": 64,
    }
    keys = {
        "base": str(REPOSITORY / "configs" / "wizardcoder" / "tiny_predict.yaml"),
        "load_checkpoint": str(tmp_path / "old" / "wizardcoder.ckpt"),
        "model": {"model_config": {**network, "n_position": 256, "seq_length": 128}},
        "processor": {"tokenizer": {"vocab_file": str(tokenizer_folder / "tokenizer.json")}},
    }
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(keys))
    found = verify(tmp_path / "old.yaml", tmp_path / "hf", SAMPLES, tokens=300)
    assert found.tokens == 300 and found.kl == 0.0 and found.first is None
    keys["load_checkpoint"] = ""
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(keys))
    with pytest.raises(UserError, match="old.yaml: names no weights: load_checkpoint is empty"):
        verify(tmp_path / "old.yaml", tmp_path / "hf", SAMPLES)


def test_an_adapter_beside_its_base_says_what_the_merged_model_says(served_folder, adapter, texts, tmp_path, capsys):
    command = ["merge-lora", str(served_folder), str(adapter), str(tmp_path / "merged"), "--verify", str(texts)]
    assert main(command) == 0
    merged, verified = capsys.readouterr().out.splitlines()
    assert "-> huggingface" in merged and verified.startswith("verify: top-1 agreement 100.000 %")
    kl, largest = (float(re.search(text, verified)[1]) for text in (r"KL (\S+) nats", r"at most (\S+)\)"))
    assert kl < 1e-9 and 0 < largest < 1e-3  # another order of sums: not the merged weights against themselves
    found = verify(adapter, served_folder, texts)
    assert found.kl > 1e-3
    theirs = peft.PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(served_folder), adapter).eval()
    ids = windows(served_folder, 512)
    with torch.no_grad():
        means = [float(theirs(torch.tensor([part]), labels=torch.tensor([part])).loss) for part in ids]
    counts = [len(part) - 1 for part in ids]
    assert found.perplexity_a == pytest.approx(math.exp(np.dot(means, counts) / sum(counts)), rel=1e-5)


def test_the_base_of_an_adapter_may_have_moved(served_folder, adapter, texts, tmp_path):
    shutil.copytree(adapter, tmp_path / "lora")
    file = tmp_path / "lora" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": "/gone"}))
    with pytest.raises(UserError, match="base model /gone does not exist"):
        verify(tmp_path / "lora", adapter, texts)
    found = verify(tmp_path / "lora", adapter, texts, base=served_folder)
    assert found.kl == 0.0
    with pytest.raises(UserError, match="is a base model, but neither A nor B is an adapter"):
        verify(served_folder, served_folder, texts, base=served_folder)


@pytest.mark.long
def test_mindspores_own_operators_say_the_same(served_folder, other, texts, monkeypatch):
    native = verify(served_folder, other, texts, tokens=60)
    monkeypatch.setenv("MINDCODER_NATIVE", "0")
    composed = verify(served_folder, other, texts, tokens=60)
    assert composed.kl == pytest.approx(native.kl, rel=1e-4)


def test_the_verb_prints_a_table_writes_json_and_judges(served_folder, other, texts, tmp_path, capsys):
    command = ["verify", str(served_folder), str(other), "--data", str(texts), "--tokens", "40", "--max_kl"]
    assert main([*command, "1e-6", "--json", str(tmp_path / "out" / "found.json")]) == 1
    shown = capsys.readouterr()
    assert "nats per token is above --max_kl 1e-06" in shown.err
    found = json.loads((tmp_path / "out" / "found.json").read_text())
    assert found["tokens"] == 40 and found["a"] == str(served_folder) and found["first"]["file"] == str(texts)
    for words in ("top-1 agreement", "KL(A||B) per token", "logit difference", "perplexity", "A predicts", "token "):
        assert words in shown.out, words
    assert f"{texts}:1, record 0, token {found['first']['position']}" in shown.out
    command[2] = str(served_folder)
    assert main([*command, "0"]) == 0
    assert "none: every likeliest token is the same" in capsys.readouterr().out


def test_plain_text_is_data_too(served_folder, other, tmp_path):
    (tmp_path / "code.txt").write_text(LONG)
    found = verify(served_folder, other, tmp_path / "code.txt", tokens=50)
    assert found.tokens == 50 and found.first is not None and found.first.line is None


def test_other_tokenizers_are_refused(served_folder, texts, tmp_path, tokenizer_folder):
    random_model("llama", layers=1, vocab_size=701).save_pretrained(tmp_path / "hf")
    for file in tokenizer_folder.iterdir():
        shutil.copy(file, tmp_path / "hf")
    with pytest.raises(UserError) as error:
        verify(served_folder, tmp_path / "hf", texts)
    assert str(error.value).startswith(f"{texts}:1: record 0: the two tokenizers give this text different ids: token")


def test_damaged_weights_are_named(served_folder, texts, tmp_path):
    shutil.copytree(served_folder, tmp_path / "nan")
    model = LlamaForCausalLM.from_pretrained(served_folder)
    with torch.no_grad():
        model.model.norm.weight[3] = float("nan")
    model.save_pretrained(tmp_path / "nan")
    with pytest.raises(UserError, match=rf"{texts}:1: record 0: the output of B is not a number"):
        verify(served_folder, tmp_path / "nan", texts)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"a": "nowhere"}, "nowhere: no such"),
        ({"b": "bigcode/starcoder2-3b"}, "are not downloaded by name"),
        ({"b": "http://localhost:8000"}, "http://localhost:8000: is a server: its /v1/completions gives the logprobs"),
        ({"data": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
        ({"data": "empty.jsonl"}, "holds no text to compare on"),
        ({"tokens": 0}, "tokens: expected a whole number of at least 1, found 0"),
        ({"max_length": 1}, "max_length: a text needs at least 2 tokens"),
        ({"dtype": "int8"}, "dtype: expected one of float32, float16, bfloat16, found 'int8'"),
        ({"device": "GPU"}, "device: expected one of auto, CPU, Ascend"),
        ({"template": "mine"}, "no template 'mine'"),
    ],
)
def test_wrong_input_is_one_line(served_folder, texts, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    given = {"a": served_folder, "b": served_folder, "data": texts, "device": "CPU", **change}
    with pytest.raises(UserError) as error:
        mindcoder.verify(**given)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_verbs_refuse_before_the_work(served_folder, texts, tmp_path, capsys):
    assert main(["verify", str(served_folder), "nowhere", "--data", str(texts)]) == 2
    assert "nowhere: no such checkpoint" in capsys.readouterr().err
    assert main(["verify", str(served_folder), str(served_folder), "--data", str(texts), "--json", str(texts)]) == 2
    assert "is one of the files to read" in capsys.readouterr().err
    assert main(["convert", str(served_folder), str(tmp_path / "x"), "--verify", str(tmp_path / "no.jsonl")]) == 2
    assert "no.jsonl: no such file" in capsys.readouterr().err and not (tmp_path / "x").exists()
    assert main(["convert", str(served_folder), str(tmp_path / "x.bin"), "--verify", str(texts)]) == 2
    assert "with the config.json beside it" in capsys.readouterr().err and not (tmp_path / "x.bin").exists()


def test_learned_positions_limit_the_texts(tmp_path, tokenizer_folder):
    random_model(layers=1, vocab_size=701, n_positions=64).save_pretrained(tmp_path / "hf")
    for file in tokenizer_folder.iterdir():
        shutil.copy(file, tmp_path / "hf")
    (tmp_path / "code.py").write_text("def add(a, b):\n    return a + b\n" * 20)
    found = verify(tmp_path / "hf", tmp_path / "hf", tmp_path / "code.py")
    assert found.texts > 2 and np.isfinite(found.perplexity_a)
    with pytest.raises(UserError, match="max_length: 65 tokens are more than its 64 positions"):
        verify(tmp_path / "hf", tmp_path / "hf", tmp_path / "code.py", max_length=65)
