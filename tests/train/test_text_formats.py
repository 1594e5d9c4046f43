"""A model is asked the way it was trained: template and tokenizer travel with data, runs, checkpoints and exports."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import REPOSITORY, SAMPLES

from mindcoder.checkpoint.trained_format import trained_format
from mindcoder.cli.main import main
from mindcoder.config.recipe import read_recipe
from mindcoder.config.write import as_yaml
from mindcoder.data.text_format import TextFormat, read_text_format
from mindcoder.errors import UserError
from mindcoder.generate.model import ModelRequest, open_model
from mindcoder.tokenizer.bpe import train_tokenizer
from mindcoder.tokenizer.fingerprint import fingerprint

CONFIG = REPOSITORY / "configs" / "llama" / "tiny_finetune.yaml"
SETTINGS = {
    "runner_config.max_steps": 2,
    "runner_config.batch_size": 2,
    "model.model_config.seq_length": 256,
    "model.model_config.vocab_size": 704,
    "model.model_config.pad_token_id": 699,
    "model.model_config.hidden_size": 32,
    "model.model_config.num_layers": 1,
    "model.model_config.intermediate_size": 64,
}


def finetune(folder: Path, name: str, *extra: object, data="d.mindrecord", sets=None) -> int:
    settings = {**SETTINGS, **(sets or {})}
    flags = [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
    command = ["finetune", "--config", CONFIG, "--train_data", folder / data, "--output_dir", folder / name]
    return main([*map(str, command), *flags, *map(str, extra)])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, tokenizer_folder):
    """Datasets of two templates, and a Llama trained with WizardCoder's, whose family's own is another."""
    folder = tmp_path_factory.mktemp("formats")
    for name, template in (("d", "wizardcoder"), ("chat", "llama2-chat")):
        asked = ["preprocess", "--input_glob", SAMPLES, "--vocab_file", tokenizer_folder, "--seq_length", 256]
        asked += ["--workers", 1, "--template", template, "--output_file", folder / f"{name}.mindrecord"]
        assert main([*map(str, asked)]) == 0
    assert finetune(folder, "run", "--vocab_file", tokenizer_folder) == 0
    train_tokenizer(["def add(a, b):\n    return a + b\n" * 5], 600).save(folder / "other")
    return folder


def test_run_and_checkpoint_carry_template_and_tokenizer(workspace, small_tokenizer):
    made = TextFormat("wizardcoder", fingerprint(small_tokenizer))
    run = workspace / "run"
    for place in (run, run / "checkpoint", run / "checkpoint" / "step_00000002"):
        assert trained_format(place) == made
    assert read_text_format(run / "tokenizer") == made


def test_a_wizardcoder_trained_llama_is_asked_in_its_template_wherever_it_goes(workspace, small_tokenizer, capsys):
    for target, form in (("hf", "huggingface"), ("ours", "mindcoder")):
        asked = ["convert", workspace / "run", workspace / target, "--to", form, "--overwrite"]
        assert main([*map(str, asked)]) == 0
        assert read_text_format(workspace / target) == TextFormat("wizardcoder", fingerprint(small_tokenizer))
    config = json.loads((workspace / "hf" / "tokenizer_config.json").read_text())
    assert "### Instruction" in config["chat_template"]
    for place in ("run", "hf", "ours"):
        assert open_model(ModelRequest(str(workspace / place))).template == "wizardcoder", place
    assert "template" not in capsys.readouterr().err
    assert open_model(ModelRequest(str(workspace / "hf"), template="llama2-chat")).template == "llama2-chat"
    assert "template llama2-chat is used; the model was trained with wizardcoder" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["run", "run/checkpoint/step_00000002"])
def test_another_tokenizer_is_refused(place, workspace):
    with pytest.raises(UserError, match=r"was trained with another tokenizer \(699 ids, .*\) than the one given \("):
        open_model(ModelRequest(str(workspace / place), tokenizer=str(workspace / "other")))


@pytest.mark.parametrize(
    "verb, extra",
    [
        ("finetune", ["--train_data", "d.mindrecord"]),
        ("eval", ["--eval_dataset", "d.mindrecord", "--load_checkpoint", "run"]),
        ("predict", ["--predict_data", "add", "--load_checkpoint", "run"]),
    ],
)
def test_run_verbs_refuse_another_tokenizer(verb, extra, workspace, capsys):
    flags = [text for key, value in SETTINGS.items() for text in ("--set", f"{key}={value}")]
    places = [text if text.startswith("--") or text == "add" else str(workspace / text) for text in extra]
    command = [verb, "--config", str(CONFIG), "--output_dir", str(workspace / "refused"), *places]
    assert main([*command, "--vocab_file", str(workspace / "other"), *flags]) == 2
    error = capsys.readouterr().err
    assert "another tokenizer (699 ids, fingerprint" in error and "Traceback" not in error
    assert not (workspace / "refused" / "checkpoint").exists()


def test_a_dataset_of_another_template_is_refused_with_what_to_do(workspace, capsys, tokenizer_folder):
    assert finetune(workspace, "refused", "--vocab_file", tokenizer_folder, data="chat.mindrecord") == 2
    assert "was made with template llama2-chat, prompt_template (--template) is wizardcoder" in capsys.readouterr().err


def test_training_without_a_tokenizer_says_so_at_once_and_keeps_the_datas_identity(workspace, capsys, tokenizer_folder):
    assert finetune(workspace, "bare") == 0
    said = capsys.readouterr().err
    assert said.index("no tokenizer is with this run; chat, serve and predict will need") < said.index("2 steps of")
    assert "give --vocab_file" in said and str(workspace / "bare" / "tokenizer") in said
    with pytest.raises(UserError, match="has no tokenizer with it"):
        open_model(ModelRequest(str(workspace / "bare")))
    with pytest.raises(UserError, match="was trained with another tokenizer"):
        open_model(ModelRequest(str(workspace / "bare"), tokenizer=str(workspace / "other")))
    assert open_model(ModelRequest(str(workspace / "bare"), tokenizer=str(tokenizer_folder))).template == "wizardcoder"


def test_predict_takes_the_trained_template_where_none_is_asked_for(workspace, tmp_path, capsys):
    from mindcoder.config.load import load_config
    from mindcoder.train.text_formats import as_trained

    text = as_yaml(read_recipe(CONFIG).data)
    (tmp_path / "c.yaml").write_text(re.sub("  prompt_template: wizardcoder .*\n", "", text))
    flags = {"load_checkpoint": ("--load_checkpoint", str(workspace / "chat_run"))}
    shutil.copytree(workspace / "run" / "tokenizer", workspace / "chat_run" / "tokenizer", dirs_exist_ok=True)
    made = json.loads((workspace / "chat_run" / "tokenizer" / "mindcoder.json").read_text())
    (workspace / "chat_run" / "tokenizer" / "mindcoder.json").write_text(
        json.dumps({**made, "prompt_template": "llama2-chat"})
    )
    config, _ = load_config(tmp_path / "c.yaml", (), flags)
    assert as_trained(config, None).processor.prompt_template == "llama2-chat"
    assert "template" not in capsys.readouterr().err
    asked = {**flags, "processor.prompt_template": ("--template", "plain")}
    config, _ = load_config(tmp_path / "c.yaml", (), asked)
    assert as_trained(config, None).processor.prompt_template == "plain"
    assert "template plain is used; the model was trained with llama2-chat" in capsys.readouterr().err


def test_adapters_carry_it_through_merging_and_peft(workspace, small_tokenizer):
    base = TextFormat("wizardcoder", fingerprint(small_tokenizer))
    lora = {"pet_method": "lora", "model.model_config.n_kv_heads": 2}
    assert finetune(workspace, "lora", "--load_checkpoint", workspace / "run", sets=lora) == 0
    assert trained_format(workspace / "lora") == base
    for asked in (["export-lora", "lora", "peft"], ["merge-lora", "run", "lora", "merged"]):
        verb, *places = asked
        assert main([verb, *(str(workspace / place) for place in places)]) == 0
        assert read_text_format(workspace / places[-1]) == base
    assert open_model(ModelRequest(str(workspace / "peft"))).template == "wizardcoder"
