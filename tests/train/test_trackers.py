"""Weights & Biases and SwanLab, offline: what they were given, read back by themselves."""

from __future__ import annotations

import importlib.util

import pytest
from conftest import SAMPLES

from mindcoder.cli.main import main
from mindcoder.data.preprocess import PreprocessOptions, preprocess

SIZES = {
    "runner_config.batch_size": 2,
    "runner_config.max_steps": 3,
    "runner_config.peak_tflops": 0.5,
    "model.model_config.seq_length": 128,
    "model.model_config.vocab_size": 700,
    "model.model_config.pad_token_id": 699,
    "model.model_config.hidden_size": 32,
    "model.model_config.num_layers": 1,
}


def finetune(tmp_path, tokenizer, kind: str) -> int:
    data = tmp_path / "samples.mindrecord"
    preprocess(PreprocessOptions(str(SAMPLES), data, 128, True, workers=1, show_progress=False), tokenizer)
    settings = {**SIZES, "callbacks.0.type": kind, "callbacks.0.project": "tests"}
    flags = [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
    config = ("--config", "configs/wizardcoder/tiny_finetune.yaml", "--train_data", str(data))
    return main(["finetune", *config, "--output_dir", str(tmp_path / "run"), *flags])


@pytest.mark.parametrize("kind, package", [("WandbMonitor", "wandb"), ("SwanLabMonitor", "swanlab")])
def test_a_tracker_gets_the_run_or_says_what_to_install(kind, package, small_tokenizer, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    if importlib.util.find_spec(package) is None:
        assert finetune(tmp_path, small_tokenizer, kind) == 2
        assert f"{kind} needs a package that is not installed: pip install {package}" in capsys.readouterr().err
        return
    assert finetune(tmp_path, small_tokenizer, kind) == 0
    written = [file for file in (tmp_path / "run").rglob("*") if package in str(file) and file.is_file()]
    assert any(file.stat().st_size > 500 for file in written)
    if package == "wandb":
        (log,) = (tmp_path / "run").rglob("run-*.wandb")
        content = log.read_bytes()
        assert b"train/grad_norm" in content and b"tests" in content
