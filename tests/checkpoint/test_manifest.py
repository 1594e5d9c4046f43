"""Training checkpoints whose manifest or state does not tell the truth."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from families import random_model

from mindcoder.checkpoint.huggingface import HuggingFaceFolder
from mindcoder.checkpoint.manifest import digest
from mindcoder.checkpoint.shards import Shard
from mindcoder.checkpoint.store import (
    begin_checkpoint,
    finish_checkpoint,
    list_steps,
    newest_checkpoint,
    open_checkpoint,
    save_checkpoint,
    write_shards,
)
from mindcoder.errors import UserError


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf")
    random_model("llama").save_pretrained(folder)
    return HuggingFaceFolder(folder).transformer_config


def tensors(network):
    model = {name: np.zeros(shape, np.float32) for name, shape in network.parameter_shapes().items()}
    return model, {f"{moment}.{name}": value for name, value in model.items() for moment in ("adam_m", "adam_v")}


def save(root, network, step=5, **state):
    return save_checkpoint(root, {"step": step, "config": asdict(network), **state}, *tensors(network), keep=5)


def save_slices(root, network):
    """A checkpoint of two processes, each with half the rows of every matrix."""
    model, optimizer = tensors(network)
    folder = begin_checkpoint(root, 5)
    for rank in range(2):
        halves = []
        for values in (model, optimizer):
            shards = {}
            for name, value in values.items():
                half = (value.shape[0] + 1) // 2
                rows = value[:half] if rank == 0 else value[half:]
                shards[name] = Shard(rows, value.shape, 0, rank * half)
            halves.append(shards)
        write_shards(folder, *halves, rank)
    return finish_checkpoint(folder, {"step": 5, "config": asdict(network)}, 5)


def rewrite(folder, name, change):
    """Change a JSON file of a checkpoint; the manifest stays right about its digest."""
    file = folder / name
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))
    if name != "manifest.json":
        entry = {"bytes": file.stat().st_size, "sha256": digest(file)}
        rewrite(folder, "manifest.json", lambda manifest: manifest["files"].update({name: entry}))


def test_a_whole_checkpoint_in_one_piece_or_in_slices_is_whole(tmp_path, network):
    assert open_checkpoint(save(tmp_path / "a", network)).step == 5
    assert open_checkpoint(save_slices(tmp_path / "b", network)).step == 5


@pytest.mark.parametrize("removes", [False, True])
@pytest.mark.parametrize("kind", ["model", "optimizer"])
def test_a_manifest_that_omits_a_slice_is_damaged(kind, removes, tmp_path, network):
    folder = save_slices(tmp_path, network)
    name = f"{kind}-rank_0001.safetensors"
    rewrite(folder, "manifest.json", lambda manifest: manifest["files"].pop(name))
    expected = f"does not list {name}"
    if removes:
        (folder / name).unlink()
        expected = "parts of .* end at "
    with pytest.raises(UserError, match=expected):
        open_checkpoint(folder)


@pytest.mark.parametrize("prefix", ["", "adam_v."])
def test_a_tensor_that_is_nowhere_is_damage(prefix, tmp_path, network):
    model, optimizer = tensors(network)
    name = "layers.1.mlp.up.weight"
    del (optimizer if prefix else model)[f"{prefix}{name}"]
    folder = save_checkpoint(tmp_path, {"step": 5, "config": asdict(network)}, model, optimizer, 5)
    with pytest.raises(UserError, match=f"damaged checkpoint: lacks {prefix}{name}$"):
        open_checkpoint(folder)


def keep_nothing(manifest):
    manifest["files"] = {}


def keep_state_only(manifest):
    manifest["files"] = {"state.json": manifest["files"]["state.json"]}


def point_outside(manifest):
    manifest["files"]["../../../etc/passwd"] = manifest["files"]["state.json"]


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda m: m.update(files=None), "files: expected an object, found null"),
        (lambda m: m.update(files=[]), "files: expected an object, found a list"),
        (lambda m: m.update(version="1"), "version: expected 1, found '1'"),
        (keep_nothing, "lists no model"),
        (keep_state_only, "lists no model"),
        (lambda m: m["files"].pop("optimizer.safetensors"), "lists no optimizer"),
        (lambda m: m["files"].pop("state.json"), "does not list state.json"),
        (point_outside, "is not the name of a file in this folder"),
        (lambda m: m["files"].update({"state.json": 7}), "files.state.json: expected an object, found a number"),
        (lambda m: m["files"]["state.json"].update(bytes=-1), "state.json.bytes: expected a number of bytes"),
        (lambda m: m["files"]["state.json"].update(bytes=10**40), "state.json.bytes: expected a number of bytes"),
        (lambda m: m["files"]["state.json"].update(bytes=True), "state.json.bytes: expected a number of bytes"),
        (lambda m: m["files"]["state.json"].update(sha256=None), "state.json.sha256: expected 64 hexadecimal"),
    ],
)
def test_a_manifest_of_the_wrong_kind_is_one_line(change, expected, tmp_path, network):
    folder = save(tmp_path, network)
    rewrite(folder, "manifest.json", change)
    with pytest.raises(UserError) as error:
        open_checkpoint(folder)
    assert expected in str(error.value) and str(folder / "manifest.json") in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x04\x95binary\0\0", b"null", b"[" * 100_000, b'{"a": 1', b'{"version": 1' + b"0" * 5000 + b"}"],
)
@pytest.mark.parametrize("name", ["manifest.json", "state.json"])
def test_a_file_that_is_no_json_is_one_line(name, content, tmp_path, network):
    folder = save(tmp_path, network)
    (folder / name).write_bytes(content)
    if name == "state.json":
        entry = {"bytes": len(content), "sha256": digest(folder / name)}
        rewrite(folder, "manifest.json", lambda manifest: manifest["files"].update({name: entry}))
    with pytest.raises(UserError) as error:
        open_checkpoint(folder)
    assert str(folder / name) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda s: s.update(step="5"), "step: expected a whole number"),
        (lambda s: s.update(step=-1), "step: expected a whole number"),
        (lambda s: s.update(step=10**400), "step: expected a whole number"),
        (lambda s: s.update(config=[]), "does not describe a network"),
        (lambda s: s["config"].update(num_layers=10**9), "does not describe a network: num_layers"),
        (lambda s: s["config"].update(num_layers=99), "lacks layers."),
        (lambda s: s["config"].update(hidden=1), "does not describe a network: unknown fields: hidden"),
        (lambda s: s.update(adapter={"options": None}), "does not describe a network"),
    ],
)
def test_a_state_that_makes_no_sense_is_one_line(change, expected, tmp_path, network):
    folder = save(tmp_path, network)
    rewrite(folder, "state.json", change)
    with pytest.raises(UserError) as error:
        open_checkpoint(folder)
    assert expected in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 600


def test_a_slice_that_lies_about_its_place_is_one_line(tmp_path, network):
    from safetensors.numpy import load_file, save_file

    folder = save_slices(tmp_path, network)
    file = folder / "model-rank_0001.safetensors"
    for text in ("{", "[]", '{"layers.0.mlp.up.weight": {"shape": null, "axis": 9, "begin": 1e99}}'):
        save_file(load_file(file), file, {"parts": text})
        entry = {"bytes": file.stat().st_size, "sha256": digest(file)}
        rewrite(folder, "manifest.json", lambda manifest: manifest["files"].update({file.name: entry}))  # noqa: B023
        with pytest.raises(UserError) as error:
            open_checkpoint(folder)
        assert "\n" not in str(error.value)


def test_when_every_checkpoint_is_damaged_each_is_named_and_nothing_goes(tmp_path, network):
    for step in (5, 10, 15):
        save(tmp_path, network, step)
    folders = list_steps(tmp_path)
    (folders[0] / "manifest.json").unlink()
    (folders[1] / "optimizer.safetensors").write_bytes(b"short")
    rewrite(folders[2], "manifest.json", keep_nothing)
    with pytest.raises(UserError) as error:
        newest_checkpoint(tmp_path)
    for reason in (
        "step_00000005: is not a complete checkpoint: manifest.json is missing",
        "step_00000010/optimizer.safetensors: damaged checkpoint: 5 bytes instead of",
        "step_00000015/manifest.json: damaged checkpoint: lists no model",
    ):
        assert reason in str(error.value)
    assert "\n" not in str(error.value) and list_steps(tmp_path) == folders
