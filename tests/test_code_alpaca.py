"""The main job on real data: CodeAlpaca in, a loss and an evaluation perplexity that fall."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest
from conftest import REPOSITORY

pytestmark = pytest.mark.long

CONFIG = REPOSITORY / "configs" / "wizardcoder" / "tiny_pretrain.yaml"


def mindcoder(*arguments) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mindcoder.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_code_alpaca_trains(shared_data, tmp_path):
    records = json.loads((shared_data / "code_alpaca_2k.json").read_text())
    (tmp_path / "train.json").write_text(json.dumps(records[:1800]))
    (tmp_path / "eval.json").write_text(json.dumps(records[1800:]))
    mindcoder(
        "train-tokenizer",
        "--input_glob",
        tmp_path / "train.json",
        "--vocab_size",
        2048,
        "--output_dir",
        tmp_path / "tokenizer",
    )
    for name in ("train", "eval"):
        screen = mindcoder(
            "preprocess",
            "--input_glob",
            tmp_path / f"{name}.json",
            "--vocab_file",
            tmp_path / "tokenizer" / "tokenizer.json",
            "--packing",
            "--seq_length",
            256,
            "--output_file",
            tmp_path / f"{name}.mindrecord",
        )
        assert "padding" in screen
    sets = {
        "model.model_config.vocab_size": 2048,
        "model.model_config.pad_token_id": 2047,
        "model.model_config.seq_length": 256,
        "runner_config.max_steps": 300,
        "eval_step_interval": 100,
        "runner_config.batch_size": 8,
        "model.model_config.hidden_size": 192,
        "lr_schedule.learning_rate": 2e-3,
        "runner_config.epochs": 20,
    }
    screen = mindcoder(
        "finetune",
        "--config",
        CONFIG,
        "--train_data",
        tmp_path / "train.mindrecord",
        "--eval_dataset",
        tmp_path / "eval.mindrecord",
        "--output_dir",
        tmp_path / "out",
        *(text for key, value in sets.items() for text in ("--set", f"{key}={value}")),
    )
    assert "perplexity" in screen
    with open(tmp_path / "out" / "curves" / "loss.csv", newline="") as stream:
        losses = [float(row["loss"]) for row in csv.DictReader(stream)]
    assert len(losses) == 300
    assert sum(losses[-30:]) / 30 < sum(losses[:30]) / 30 - 1.5
    with open(tmp_path / "out" / "curves" / "eval.csv", newline="") as stream:
        perplexities = [float(row["perplexity"]) for row in csv.DictReader(stream)]
    assert len(perplexities) == 3 and perplexities[0] > perplexities[1] > perplexities[2]
    assert (tmp_path / "out" / "curves" / "loss.png").stat().st_size > 5000
