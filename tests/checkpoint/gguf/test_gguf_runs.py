"""A GGUF file in the verbs: written from a run, asked by predict, trained further, merged with an adapter."""

from __future__ import annotations

import json

import pytest
from conftest import REPOSITORY, SAMPLES

import mindcoder
from mindcoder.checkpoint.trained_format import trained_format
from mindcoder.checkpoint.weights import open_weights
from mindcoder.cli.main import main

SIZE = {
    "seq_length": 128,
    "vocab_size": 700,
    "pad_token_id": 699,
    "hidden_size": 32,
    "num_heads": 2,
    "num_layers": 1,
    "n_position": 256,
}
CONFIG = {
    "base": REPOSITORY / "configs" / "wizardcoder" / "tiny_finetune.yaml",
    "model": {"model_config": SIZE},
    "runner_config": {"epochs": 1, "batch_size": 2},
    "context.device_target": "CPU",
}
RECORDS = json.loads(SAMPLES.read_text(encoding="utf-8"))[:4]


@pytest.fixture(scope="module")
def file(tokenizer_folder, tmp_path_factory):
    """A run as a GGUF file in a folder of its own, in float32."""
    root = tmp_path_factory.mktemp("gguf_runs")
    run = mindcoder.finetune(CONFIG, RECORDS, tokenizer=tokenizer_folder, output_dir=root / "run")
    (root / "file").mkdir()
    assert main(["convert", str(run.output_dir), str(root / "file" / "run.gguf")]) == 0
    return root / "file" / "run.gguf"


def test_predict_answers_as_the_run(file, tokenizer_folder, capsys):
    run = file.parent.parent / "run"
    answers = []
    for path in (run, file, file.parent):
        given = ["--load_checkpoint", str(path), "--predict_data", "Sort a list.", "--set", "context.device_target=CPU"]
        config = ["--config", str(REPOSITORY / "configs" / "wizardcoder" / "tiny_predict.yaml")]
        sizes = [item for key, value in SIZE.items() for item in ("--set", f"model.model_config.{key}={value}")]
        assert main(["predict", *config, *given, *sizes, "--set", "model.model_config.max_decode_length=160"]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1] == answers[2]


def test_what_a_run_was_trained_with_is_in_the_file(file):
    run = open_weights(file.parent.parent / "run")
    assert run.text_format.template == "wizardcoder" and run.text_format.tokenizer is not None
    assert open_weights(file).text_format == trained_format(file) == trained_format(file.parent) == run.text_format


def test_training_goes_on_from_the_file(file, tmp_path):
    run = mindcoder.finetune(CONFIG, RECORDS, model=file, output_dir=tmp_path / "on")
    assert (run.output_dir / "tokenizer" / "tokenizer.json").is_file()
    assert mindcoder.load(run.output_dir, device="CPU", max_length=64).generate("Sort", max_new_tokens=2)


def test_adapter_on_a_gguf_base_is_merged_into_another_gguf(file, tmp_path, capsys):
    adapter = {"pet_config": {"pet_type": "lora", "lora_rank": 2}}
    config = {**CONFIG, "model": {"model_config": SIZE | adapter}}
    run = mindcoder.finetune(config, RECORDS, model=file, output_dir=tmp_path / "lora")
    merged = tmp_path / "merged.gguf"
    assert main(["merge-lora", str(file), str(run.output_dir), str(merged), "--type", "q8_0"]) == 0
    assert "-> gguf" in capsys.readouterr().out
    assert "Q8_0" in {tensor.stored_as for tensor in open_weights(merged).tensors.values()}
    assert open_weights(merged).text_format == open_weights(file).text_format
