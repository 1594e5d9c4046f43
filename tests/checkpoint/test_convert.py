"""Weights there and back, against transformers, PyTorch and MindSpore."""

from __future__ import annotations

import json
import shutil

import mindspore as ms
import numpy as np
import pytest
import torch
from families import VOCAB, random_model, to_bin
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from mindcoder.checkpoint.convert import ConvertRequest, convert, huggingface_config
from mindcoder.checkpoint.load import read_parameters
from mindcoder.checkpoint.report import report
from mindcoder.checkpoint.stored_tensor import convert_dtype
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TransformerConfig

FAMILIES = [
    pytest.param("gpt_bigcode", {}, id="gpt_bigcode multi-query"),
    pytest.param("gpt_bigcode", {"multi_query": False}, id="gpt_bigcode multi-head"),
    pytest.param("starcoder2", {"sliding_window": 16}, id="starcoder2 tied"),
    pytest.param("starcoder2", {"tie_word_embeddings": False, "use_bias": False}, id="starcoder2 untied"),
    pytest.param("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, id="llama untied linear"),
    pytest.param("llama", {"tie_word_embeddings": True, "head_dim": 16}, id="llama tied head-dim"),
]


def run(source, target, **options):
    return convert(ConvertRequest(str(source), target, show_progress=False, **options))


def tensors_of(folder):
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def same(first, second):
    assert set(first) == set(second)
    for name in first:
        assert first[name].dtype == second[name].dtype and torch.equal(first[name], second[name]), name


@pytest.mark.parametrize("family, overrides", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_round_trip_is_bitwise_and_gives_the_same_logits(family, overrides, dtype, tmp_path, rng):
    model = random_model(family, **overrides).to(dtype)
    model.save_pretrained(tmp_path / "hf", max_shard_size="60KB" if dtype == torch.float16 else "5GB")
    run(tmp_path / "hf", tmp_path / "ours", max_shard_bytes=50_000)
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) > 1
    run(tmp_path / "ours", tmp_path / "again")
    same(tensors_of(tmp_path / "hf"), tensors_of(tmp_path / "again"))
    ids = torch.tensor(rng.integers(0, VOCAB, (2, 20)))
    loaded = [AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=dtype).eval() for name in ("hf", "again")]
    with torch.no_grad():
        logits = [model(ids).logits for model in loaded]
    assert torch.equal(*logits)
    before, after = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("hf", "again"))
    assert before.pop("dtype") == after.pop("torch_dtype") == str(dtype).removeprefix("torch.")
    assert before == after


@pytest.mark.parametrize("sharded", [False, True])
def test_bin_becomes_safetensors(sharded, tmp_path):
    model = random_model("llama")
    model.save_pretrained(tmp_path / "hf", max_shard_size="60KB" if sharded else "5GB")
    shutil.copytree(tmp_path / "hf", tmp_path / "bin")
    to_bin(tmp_path / "bin")
    run(tmp_path / "bin", tmp_path / "out", to="huggingface")
    same(tensors_of(tmp_path / "hf"), tensors_of(tmp_path / "out"))
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_old_and_transposed_torch_files_are_read(tmp_path):
    model = random_model("llama")
    model.save_pretrained(tmp_path / "hf")
    shutil.copytree(tmp_path / "hf", tmp_path / "old")
    state = load_file(tmp_path / "hf" / "model.safetensors")
    (tmp_path / "old" / "model.safetensors").unlink()
    turned = {name: tensor.t().contiguous().t() if tensor.dim() == 2 else tensor for name, tensor in state.items()}
    config = open_weights(tmp_path / "hf").config
    expected = read_parameters(tmp_path / "hf", config)
    for settings in ({}, {"_use_new_zipfile_serialization": False}):
        torch.save(turned, tmp_path / "old" / "pytorch_model.bin", **settings)
        found = read_parameters(tmp_path / "old", config)
        assert all((found[name] == expected[name]).all() for name in expected)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_dtype_changes_as_pytorch_rounds(name, tmp_path):
    random_model("llama").save_pretrained(tmp_path / "hf")
    run(tmp_path / "hf", tmp_path / "out", to="huggingface", dtype=name)
    wanted = {key: tensor.to(getattr(torch, name)) for key, tensor in tensors_of(tmp_path / "hf").items()}
    same(wanted, tensors_of(tmp_path / "out"))
    run(tmp_path / "hf", tmp_path / "ours", dtype=name)
    run(tmp_path / "ours", tmp_path / "back")
    same(wanted, tensors_of(tmp_path / "back"))


def test_bfloat16_rounding_of_every_kind_of_number():
    values = np.array([0.0, -0.0, 1.0, 1.00390625, 1.01171875, 3.4e38, np.inf, -np.inf, np.nan, 1e-40], np.float32)
    values = np.concatenate([values, np.random.default_rng(0).standard_normal(1000).astype(np.float32)])
    ours = torch.tensor(convert_dtype(values, "F32", "BF16").astype(np.int32)).to(torch.int16).view(torch.bfloat16)
    assert torch.equal(ours.nan_to_num(7.0), torch.tensor(values).to(torch.bfloat16).nan_to_num(7.0))


def test_mindspore_checkpoint_of_the_old_naming_out_and_in(tmp_path):
    model = random_model("gpt_bigcode")
    model.save_pretrained(tmp_path / "hf")
    run(tmp_path / "hf", tmp_path / "wizardcoder.ckpt")
    loaded = ms.load_checkpoint(str(tmp_path / "wizardcoder.ckpt"))
    fused = model.transformer.h[1].attn.c_attn.weight.detach().numpy()
    block = "backbone.blocks.1"
    assert (loaded[f"{block}.attention.dense1.weight"].asnumpy() == fused[:48]).all()
    assert (loaded[f"{block}.attention.dense3.weight"].asnumpy() == fused[60:]).all()
    up = model.transformer.h[1].mlp.c_fc.weight.detach().numpy()
    assert (loaded[f"{block}.output.mapping.weight"].asnumpy() == up.T).all()
    run(tmp_path / "wizardcoder.ckpt", tmp_path / "again")
    same(tensors_of(tmp_path / "hf"), tensors_of(tmp_path / "again"))


def test_mindspore_checkpoint_with_fused_attention_and_optimizer_states(tmp_path):
    model = random_model("gpt_bigcode")
    model.save_pretrained(tmp_path / "hf")
    run(tmp_path / "hf", tmp_path / "plain.ckpt")
    loaded = {name: item.asnumpy() for name, item in ms.load_checkpoint(str(tmp_path / "plain.ckpt")).items()}
    for layer in range(3):
        for kind in ("weight", "bias"):
            name = f"backbone.blocks.{layer}.attention"
            parts = [loaded.pop(f"{name}.dense{number}.{kind}") for number in (1, 2, 3)]
            loaded[f"{name}.c_attn.{kind}"] = np.concatenate(parts)
    loaded["adam_m.backbone.layernorm.gamma"] = np.zeros(48, np.float32)
    loaded["global_step"] = np.array([7], np.int32)
    entries = [{"name": name, "data": ms.Tensor(value)} for name, value in loaded.items()]
    ms.save_checkpoint(entries, str(tmp_path / "fused.ckpt"))
    run(tmp_path / "fused.ckpt", tmp_path / "again")
    same(tensors_of(tmp_path / "hf"), tensors_of(tmp_path / "again"))


def test_companions_come_along_and_config_keeps_what_we_do_not_know(tmp_path, tokenizer_folder):
    model = random_model("starcoder2")
    model.save_pretrained(tmp_path / "hf")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_folder / name, tmp_path / "hf" / name)
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    (tmp_path / "hf" / "config.json").write_text(json.dumps({**config, "_note": "kept", "eos_token_id": [0, 5]}))
    run(tmp_path / "hf", tmp_path / "ours")
    assert not (tmp_path / "ours" / "config.json").exists()
    run(tmp_path / "ours", tmp_path / "again")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "hf" / name).read_bytes()
    after = json.loads((tmp_path / "again" / "config.json").read_text())
    assert after["_note"] == "kept" and after["eos_token_id"] == [0, 5]


@pytest.mark.parametrize("family", ["gpt_bigcode", "llama"])
def test_vocabulary_is_padded_with_zeros_and_cut(family, tmp_path):
    random_model(family).save_pretrained(tmp_path / "hf")
    names = {"gpt_bigcode": ["transformer.wte.weight"], "llama": ["model.embed_tokens.weight", "lm_head.weight"]}[
        family
    ]
    original = tensors_of(tmp_path / "hf")
    for dtype in (None, "float16"):
        run(tmp_path / "hf", tmp_path / "wide", to="huggingface", vocab_size=160, dtype=dtype, overwrite=True)
        wide = tensors_of(tmp_path / "wide")
        for name in names:
            assert wide[name].shape == (160, 48) and not wide[name][VOCAB:].any()
            assert torch.equal(wide[name][:VOCAB], original[name].to(wide[name].dtype))
    run(tmp_path / "hf", tmp_path / "wide", to="huggingface", vocab_size=160, overwrite=True)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "wide").config.vocab_size == 160
    run(tmp_path / "wide", tmp_path / "ours", vocab_size=VOCAB)
    run(tmp_path / "ours", tmp_path / "again")
    same(original, tensors_of(tmp_path / "again"))
    with pytest.raises(UserError, match=r"of another shape: token_embedding.weight \[131, 48\] instead of \[5000"):
        run(tmp_path / "hf", tmp_path / "other", vocab_size=5000)


@pytest.mark.parametrize("damage", ["truncated", "html", "code", "index", "missing shard", "config"])
def test_damaged_sources_are_refused_and_nothing_is_written(damage, tmp_path):
    random_model("llama").save_pretrained(tmp_path / "hf", max_shard_size="60KB")
    index = tmp_path / "hf" / "model.safetensors.index.json"
    shards = sorted((tmp_path / "hf").glob("*.safetensors"))
    if damage == "truncated":
        shards[1].write_bytes(shards[1].read_bytes()[:-10])
        expected = f"{shards[1].name}: is not a valid safetensors file"
    elif damage in ("html", "code"):
        to_bin(tmp_path / "hf")
        first = sorted((tmp_path / "hf").glob("*.bin"))[0]
        if damage == "html":
            first.write_text("<!DOCTYPE html><html>rate limited</html>")
        else:
            torch.save({"w": print}, first)
        expected = f"{first.name}: cannot be read safely"
    elif damage == "index":
        values = json.loads(index.read_text())
        values["weight_map"]["model.norm.weight"] = shards[0].name
        index.write_text(json.dumps(values))
        expected = "index.json: does not fit the model: 1 named but not there: model.norm.weight in"
    elif damage == "missing shard":
        shards[1].unlink()
        expected = f"{shards[1].name}: shard is missing"
    else:
        (tmp_path / "hf" / "config.json").write_text('{"model_type": "bert"}')
        expected = "config.json: model_type 'bert' is not one of gemma, gpt_bigcode, granite, llama"
    with pytest.raises(UserError) as error:
        run(tmp_path / "hf", tmp_path / "out" / "deep")
    assert expected in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf"]


def test_a_damaged_ckpt_and_a_foreign_one_are_refused(tmp_path):
    ms.save_checkpoint([{"name": "w", "data": ms.Tensor(np.ones(3, np.float32))}], str(tmp_path / "a.ckpt"))
    with pytest.raises(UserError, match="a.ckpt: holds no WizardCoder or Llama of MindFormers: its first tensor is w"):
        run(tmp_path / "a.ckpt", tmp_path / "out")
    (tmp_path / "a.ckpt").write_bytes((tmp_path / "a.ckpt").read_bytes()[:-4])
    with pytest.raises(UserError, match="a.ckpt: is not a valid MindSpore checkpoint"):
        run(tmp_path / "a.ckpt", tmp_path / "out")
    random_model("starcoder2").save_pretrained(tmp_path / "hf")
    with pytest.raises(UserError, match="naming of MindFormers is for gpt_bigcode and llama, not starcoder2"):
        run(tmp_path / "hf", tmp_path / "b.ckpt")


def test_targets_are_not_replaced_by_accident(tmp_path):
    random_model("llama").save_pretrained(tmp_path / "hf")
    run(tmp_path / "hf", tmp_path / "out")
    with pytest.raises(UserError, match="exists; add --overwrite"):
        run(tmp_path / "hf", tmp_path / "out")
    run(tmp_path / "hf", tmp_path / "out", overwrite=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="holds something other than a model"):
        run(tmp_path / "hf", tmp_path / "home", overwrite=True)


def test_a_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    random_model("llama").save_pretrained(tmp_path / "hf")
    monkeypatch.setattr("mindcoder.files.shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(UserError, match="no disk space: .* needed"):
        run(tmp_path / "hf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", ["gpt_bigcode", "starcoder2", "llama"])
def test_inspect_tells_what_transformers_counts(family, tmp_path):
    model = random_model(family)
    model.save_pretrained(tmp_path / "hf", max_shard_size="60KB")
    found = report(open_weights(tmp_path / "hf"))
    assert found.parameters == model.num_parameters() and found.model_type == family
    assert found.dtypes == {"F32": len(tensors_of(tmp_path / "hf"))} and len(found.files) > 1
    assert found.layer_shapes["attention.query.weight"] == (48, 48)
    text = "\n".join(found.lines())
    assert f"{found.parameters:,}" in text and "vocabulary      131" in text
    run(tmp_path / "hf", tmp_path / "ours")
    assert report(open_weights(tmp_path / "ours")).parameters == found.parameters


def test_metadata_lets_transformers_load_every_shard(tmp_path):
    model = random_model("llama")
    model.save_pretrained(tmp_path / "hf")
    run(tmp_path / "hf", tmp_path / "out", to="huggingface", max_shard_bytes=60_000)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.numel() * 4 for t in tensors_of(tmp_path / "out").values())
    save_file(load_file(next((tmp_path / "out").glob("*-00001-of-*"))), tmp_path / "copy.safetensors")
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path / "out").lm_head.weight, model.lm_head.weight)


def test_a_network_that_its_family_does_not_have_is_refused():
    network = TransformerConfig("llama", 50, 32, 1, 2, 1, 64, 128, norm="layer_norm", position="rope")
    with pytest.raises(UserError, match="cannot be written as a Llama of Hugging Face: norm is layer_norm"):
        huggingface_config(network, None, "F32")
