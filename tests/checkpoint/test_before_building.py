"""Weights of another model are refused from their headers, before a network takes memory; hub names say what to do."""

from __future__ import annotations

import io
import json
import resource
import types

import pytest
from conftest import REPOSITORY
from families import random_model

from mindcoder.checkpoint.convert import ConvertRequest, convert
from mindcoder.checkpoint.weights import open_adapter, open_weights
from mindcoder.cli.main import main
from mindcoder.config.load import load_config
from mindcoder.errors import UserError
from mindcoder.generate.model import ModelRequest, open_draft, open_model
from mindcoder.generate.run import PredictRequest, predict
from mindcoder.models.decoder import Decoder
from mindcoder.tokenizer import load_tokenizer
from mindcoder.train import datasets
from mindcoder.train import run as training

CONFIGS = REPOSITORY / "configs"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Weights of a small StarCoder in every form."""
    root = tmp_path_factory.mktemp("small")
    random_model("gpt_bigcode").save_pretrained(root / "hf")
    for target in ("own", "a.ckpt"):
        convert(ConvertRequest(str(root / "hf"), root / target, show_progress=False))
    (root / "tree" / "rank_0").mkdir(parents=True)
    (root / "tree" / "rank_0" / "wizardcoder_15B.ckpt").symlink_to(root / "a.ckpt")
    return root


@pytest.fixture
def no_network(monkeypatch):
    def refuse(self, *arguments, **named):
        raise AssertionError("a network is built")

    monkeypatch.setattr(Decoder, "__init__", refuse)


def settings(name, checkpoint, tmp_path):
    return load_config(CONFIGS / name, [f"load_checkpoint={checkpoint}", f"output_dir={tmp_path}"])[0]


@pytest.mark.parametrize("form", ["hf", "own", "a.ckpt", "tree"])
def test_predict_with_weights_of_another_model_builds_nothing(form, small, no_network, small_tokenizer, tmp_path):
    """A 15B network, which could not be built here, beside weights of three small layers."""
    config = settings("wizardcoder/15b_predict.yaml", small / form, tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as error:
        predict(config, PredictRequest("def f():"), small_tokenizer, io.StringIO())
    message = str(error.value)
    assert message.startswith(f"{small / form}: is another model than model.model_config describes: it has ")
    for difference in ("hidden_size 48 instead of 6144", "num_layers 3 instead of 40", "vocab_size 131 instead of"):
        assert difference in message
    assert "\n" not in message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize("action", ["finetune", "eval"])
def test_training_and_evaluation_build_nothing_either(action, small, no_network, monkeypatch, tmp_path):
    loader = types.SimpleNamespace(batches_per_epoch=8, holds_pairs=False, length=16)
    monkeypatch.setattr(datasets, "build_loader", lambda *arguments: loader)
    monkeypatch.setattr(training, "content_digest", lambda *arguments: "")
    config = settings("wizardcoder/15b_finetune.yaml", small / "hf", tmp_path)
    config = config.model_copy(update={"use_parallel": False})
    with pytest.raises(UserError, match="is another model than model.model_config describes: it has "):
        if action == "eval":
            training.evaluate_run(config)
        else:
            training.train(config, training.TrainRequest())


def test_weights_that_lack_a_layer_are_refused_by_every_verb_that_opens_a_folder(
    small, no_network, tokenizer_folder, tmp_path
):
    """config.json says one layer more than the file has; chat, serve, eval-code, bench and complete open it so."""
    values = json.loads((small / "hf" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "n_layer": 4, "vocab_size": 700}))
    (tmp_path / "model.safetensors").symlink_to(small / "hf" / "model.safetensors")
    with pytest.raises(UserError, match="does not fit the model: 12 missing: transformer.h.3.ln_1.weight, "):
        open_model(ModelRequest(str(tmp_path), str(tokenizer_folder)))
    with pytest.raises(UserError, match="12 missing"):
        open_draft(None, str(tmp_path), "float32", 4)


def test_a_name_of_the_hub_says_how_to_get_the_folder(monkeypatch, tmp_path, tmp_path_factory, capsys):
    problems = tmp_path_factory.mktemp("problems") / "mbpp.jsonl"
    problems.write_text(json.dumps({"task_id": 11, "text": "Add.", "code": "x = 1", "test_list": ["assert x"]}))
    monkeypatch.chdir(tmp_path)
    hint = "hf download bigcode/starcoder --local-dir starcoder (or huggingface-cli download), then give that folder"
    config = open_weights_config()
    for ask in (
        lambda: open_weights("bigcode/starcoder"),
        lambda: open_adapter("bigcode/starcoder", config),
        lambda: load_tokenizer("bigcode/starcoder"),
    ):
        with pytest.raises(UserError) as error:
            ask()
        message = str(error.value)
        assert message.startswith("bigcode/starcoder: no such ") and "\n" not in message
        assert "are not downloaded by name" in message and message.endswith(hint)
    tiny = str(CONFIGS / "wizardcoder" / "tiny_predict.yaml")
    for arguments in (
        ["convert", "bigcode/starcoder", "out"],
        ["inspect", "bigcode/starcoder"],
        ["chat", "bigcode/starcoder"],
        ["complete", "bigcode/starcoder", "--prefix", "def f():"],
        ["serve", "bigcode/starcoder"],
        ["bench", "bigcode/starcoder"],
        ["eval-code", "bigcode/starcoder", "--task", "mbpp", "--data", str(problems), "--generate_only"],
        ["merge-lora", "bigcode/starcoder", "bigcode/starcoder", "out"],
        ["predict", "--config", tiny, "--load_checkpoint", "bigcode/starcoder", "--predict_data", "x"],
        ["eval", "--config", tiny, "--load_checkpoint", "bigcode/starcoder"],
    ):
        assert main(arguments) == 2, arguments
        assert hint in capsys.readouterr().err, arguments
    assert not list(tmp_path.iterdir())


def open_weights_config():
    from mindcoder.families.gpt_bigcode import FAMILY

    return FAMILY.config_from_huggingface({"n_embd": 48, "n_head": 4, "n_layer": 1})


def test_a_missing_folder_of_ours_is_no_name_of_the_hub(monkeypatch, tmp_path):
    (tmp_path / "output").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("output/run", "nowhere", "/a/b", "./bigcode/starcoder", "a/b/c"):
        with pytest.raises(UserError) as error:
            open_weights(name)
        assert str(error.value) == f"{name}: no such checkpoint"
    (tmp_path / "link").symlink_to("gone")
    with pytest.raises(UserError, match="link: is a link to gone, which does not exist"):
        open_weights("link")


def test_convert_onto_a_link_writes_what_it_points_to(small, tmp_path):
    for name in ("first", "second"):
        convert(ConvertRequest(str(small / "hf"), tmp_path / name, show_progress=False))
    (tmp_path / "link").symlink_to("first")
    convert(ConvertRequest(str(small / "hf"), tmp_path / "link", to="huggingface", overwrite=True, show_progress=False))
    assert (tmp_path / "link").is_symlink() and (tmp_path / "first" / "config.json").is_file()
    (tmp_path / "new").symlink_to(tmp_path / "made")
    convert(ConvertRequest(str(small / "hf"), tmp_path / "new", show_progress=False))
    assert (tmp_path / "new").is_symlink() and (tmp_path / "made" / "architecture.json").is_file()
    (tmp_path / "b.ckpt").symlink_to("c.ckpt")
    for _ in range(2):
        convert(ConvertRequest(str(small / "hf"), tmp_path / "b.ckpt", overwrite=True, show_progress=False))
    assert (tmp_path / "b.ckpt").is_symlink() and (tmp_path / "c.ckpt").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "b.ckpt", "c.ckpt", "first", "link", "made", "new", "second",
    ]  # fmt: skip


@pytest.mark.parametrize("case", ["loop", "file for folder", "folder for file", "around source", "below a file"])
def test_a_target_that_cannot_be_replaced_is_refused_before_the_work(case, small, tmp_path, monkeypatch):
    monkeypatch.setattr("mindcoder.checkpoint.convert.staging_directory", lambda target: pytest.fail("work has begun"))
    source, target = small / "hf", tmp_path / "target"
    if case == "loop":
        target.symlink_to("target")
        expected = "target: "
    elif case == "file for folder":
        target.write_text("dear")
        expected = "target: is a file; expected a folder"
    elif case == "folder for file":
        target = tmp_path / "target.ckpt"
        target.mkdir()
        (target / "config.json").write_text("{}")
        expected = "target.ckpt: is a folder; expected a file"
    elif case == "around source":
        target.mkdir()
        for name in ("config.json", "model.safetensors"):
            (target / name).write_bytes((source / name).read_bytes())
        (target / "inner").mkdir()
        convert_source = target / "inner" / "hf"
        convert_source.mkdir()
        for name in ("config.json", "model.safetensors"):
            (convert_source / name).write_bytes((source / name).read_bytes())
        source, expected = convert_source, "target: holds .*, which is read: give another folder"
    else:
        target.write_text("dear")
        target, expected = target / "deeper" / "out", "out: cannot be written: "
    with pytest.raises(UserError, match=expected):
        convert(ConvertRequest(str(source), target, overwrite=True, show_progress=False))
