"""Checkpoints and Hugging Face folders, whole and broken."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from families import random_model, to_bin
from safetensors.numpy import load_file, save_file

from mindcoder.checkpoint.load import load_weights, read_parameters
from mindcoder.checkpoint.store import list_steps, newest_checkpoint, save_checkpoint
from mindcoder.errors import NoSpaceError, UserError
from mindcoder.models.decoder import Decoder


def save(root, step, keep=5):
    return save_checkpoint(
        root, {"step": step}, {"w": np.full((4, 4), step, np.float32)}, {"m": np.zeros(3, np.float32)}, keep
    )


def test_newest_whole_checkpoint_wins_and_old_ones_go(tmp_path):
    for step in (5, 10, 15, 20):
        save(tmp_path, step, keep=3)
    assert [path.name for path in list_steps(tmp_path)] == ["step_00000010", "step_00000015", "step_00000020"]
    (tmp_path / "step_00000020" / "manifest.json").unlink()
    (tmp_path / "step_00000015" / "optimizer.safetensors").write_bytes(b"short")
    newest = newest_checkpoint(tmp_path)
    assert newest.step == 10 and (newest.tensors("model")["w"].read() == 10).all()


def test_full_disk_keeps_what_is_there(tmp_path, monkeypatch):
    save(tmp_path, 5)
    with monkeypatch.context() as patched:
        patched.setattr("mindcoder.files.shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
        with pytest.raises(NoSpaceError, match="no disk space: .* needed"):
            save(tmp_path, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000005"]


def test_a_write_that_fails_midway_leaves_nothing(tmp_path, monkeypatch):
    def full(*arguments, **settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mindcoder.checkpoint.store.os.fsync", full)
    with pytest.raises(NoSpaceError, match="no disk space left to write it"):
        save(tmp_path, 5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["safetensors", "sharded safetensors", "bin", "sharded bin", "bare transformer"])
def test_every_form_of_a_huggingface_folder_loads_bitwise(form, tmp_path, hf_folder):
    model, decoder, _ = hf_folder(multi_query=True)
    size = {"max_shard_size": "40KB"} if "sharded" in form else {}
    (model.transformer if form == "bare transformer" else model).save_pretrained(tmp_path, **size)
    if "bin" in form:
        to_bin(tmp_path)
    if "sharded" in form:
        assert len(list(tmp_path.glob("*-of-*"))) > 1
    ours = read_parameters(tmp_path, decoder.config)
    expected = {item.name: item.asnumpy() for item in decoder.get_parameters()}
    assert set(ours) == set(expected)
    for name, value in ours.items():
        assert (value == expected[name]).all(), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_load(dtype, tmp_path, hf_folder):
    model, decoder, _ = hf_folder(multi_query=True)
    random_model(multi_query=True).to(dtype).save_pretrained(tmp_path)
    ours = read_parameters(tmp_path, decoder.config)
    want = model.transformer.wte.weight.to(dtype).float().detach().numpy()
    assert (ours["token_embedding.weight"].astype(np.float32) == want).all()


def test_one_more_token_is_filled_with_zeros(tmp_path, hf_folder):
    from dataclasses import replace

    _, decoder, folder = hf_folder(multi_query=True)
    wider = replace(decoder.config, vocab_size=132)
    table = read_parameters(folder, wider)["token_embedding.weight"]
    assert table.shape[0] == 132 and not table[131].any() and table[130].any()


def test_another_architecture_is_one_clear_error(hf_folder):
    from dataclasses import replace

    _, decoder, folder = hf_folder("llama", rope_theta=1e6)
    other = Decoder(replace(decoder.config, rope_theta=1e4, num_layers=4), empty=True)
    with pytest.raises(
        UserError, match=r"num_layers 3 instead of 4, rope_theta 1000000.0 instead of 10000.0 \(theta\)"
    ):
        load_weights(other, str(folder))


def test_files_that_contradict_their_config_are_one_error_with_names_and_counts(tmp_path, hf_folder):
    _, decoder, folder = hf_folder("llama")
    tensors = load_file(folder / "model.safetensors")
    tensors = {name: tensor for name, tensor in tensors.items() if ".layers.2." not in name and "layers.1." not in name}
    tensors["model.extra"] = tensors["model.norm.weight"]
    tensors["model.layers.0.mlp.up_proj.weight"] = tensors["model.layers.0.mlp.up_proj.weight"][:5]
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(UserError) as error:
        read_parameters(tmp_path, decoder.config)
    text = str(error.value)
    assert "18 missing: model.layers.1.input_layernorm.weight, " in text and "… 8 more" in text
    assert "1 unexpected: model.extra" in text
    assert "1 of another shape: layers.0.mlp.up.weight [5, 48] instead of [112, 48]" in text


class Malice:
    """Unpickling this would run code."""

    def __reduce__(self):
        return (print, ("code from a weight file ran",))


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("model.safetensors", b"<!DOCTYPE html><html>not found</html>", "is not a valid safetensors file"),
        ("pytorch_model.bin", b"<!DOCTYPE html><html>not found</html>", "cannot be read safely as PyTorch weights"),
        ("pytorch_model.bin", pickle.dumps({"w": Malice()}), "cannot be read safely as PyTorch weights"),
        (
            "model.safetensors.index.json",
            b'{"weight_map": {"a": "model-00001-of-00002.safetensors"}}',
            "shard is missing",
        ),
        ("model.safetensors.index.json", b"[]", "expected an object"),
        ("other.txt", b"", "holds neither model.safetensors nor pytorch_model.bin"),
    ],
)
def test_broken_weight_files_are_refused_by_name(name, content, expected, tmp_path, hf_folder, capfd):
    _, decoder, folder = hf_folder(multi_query=True)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=expected):
        read_parameters(tmp_path, decoder.config)
    assert "code from a weight file ran" not in capfd.readouterr().out


def test_a_truncated_file_and_another_family_are_refused(tmp_path, hf_folder):
    _, decoder, folder = hf_folder(multi_query=True)
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(UserError, match="is not a valid safetensors file"):
        read_parameters(tmp_path, decoder.config)
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(UserError, match="model_type 'bert' is not one of .*gpt_bigcode"):
        read_parameters(tmp_path, decoder.config)
