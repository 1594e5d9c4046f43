"""Losses that jump or are NaN; the page about a run."""

from __future__ import annotations

import csv
import json
import math

import pytest
from conftest import SAMPLES

from mindcoder.cli.main import main
from mindcoder.data.preprocess import PreprocessOptions, preprocess
from mindcoder.train.health import HealthOptions, LossHealth
from mindcoder.train.step import TrainStep

SIZES = {
    "runner_config.batch_size": 2,
    "runner_config.epochs": 2,
    "runner_config.max_steps": 24,
    "model.model_config.seq_length": 128,
    "model.model_config.vocab_size": 700,
    "model.model_config.pad_token_id": 699,
    "model.model_config.hidden_size": 32,
    "model.model_config.num_layers": 1,
    "callbacks.1.save_checkpoint_steps": 5,
}


@pytest.fixture(scope="module")
def dataset(small_tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("health") / "samples.mindrecord"
    preprocess(PreprocessOptions(str(SAMPLES), path, 128, True, workers=1, show_progress=False), small_tokenizer)
    return path


def finetune(dataset, output, **sets) -> int:
    settings = [text for key, value in {**SIZES, **sets}.items() for text in ("--set", f"{key}={value}")]
    config = ("--config", "configs/wizardcoder/tiny_finetune.yaml", "--train_data", str(dataset))
    return main(["finetune", *config, "--output_dir", str(output), *settings])


@pytest.fixture
def disturbed(monkeypatch):
    """Makes the n-th update report something else than it computed."""

    def disturb(changes):
        plain, calls = TrainStep.run, []

        def run(step, *given):
            loss, norm = plain(step, *given)
            calls.append(loss)
            return changes.get(len(calls), lambda loss, norm: (loss, norm))(loss, norm)

        monkeypatch.setattr(TrainStep, "run", run)
        return calls

    return disturb


def noted(output) -> list[dict]:
    return [json.loads(line) for line in (output / "health.jsonl").read_text().splitlines()]


def test_a_spike_is_a_multiple_of_the_median_of_healthy_losses():
    health = LossHealth(HealthOptions(spike_factor=2.0, window=10), None)
    assert [health.judge(1.0 + 0.01 * number, 1.0) for number in range(12)] == ["fine"] * 12
    assert health.judge(2.3, 1.0) == "spike" and health.judge(2.3, 1.0) == "spike"  # it is not remembered
    assert health.judge(math.nan, 1.0) == health.judge(1.0, math.inf) == "not finite"
    assert health.skipped_in_a_row == 2 and health.judge(1.1, 1.0) == "fine" and health.skipped_in_a_row == 0


def test_without_patience_a_loss_that_is_no_number_ends_the_run_and_names_its_rows(
    dataset, disturbed, tmp_path, capsys
):
    disturbed({7: lambda loss, norm: (math.nan, math.nan)})
    assert finetune(dataset, tmp_path) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "step 7: the gradient is not finite" in line and "loss_health.patience" in line
    (entry,) = noted(tmp_path)
    assert entry["verdict"] == "not finite" and entry["action"] == "stopped" and len(entry["rows"]) == 2
    assert str(entry["rows"]) in line and entry["dataset"] == str(dataset)


def test_with_patience_it_is_skipped(dataset, disturbed, tmp_path):
    disturbed({number: lambda loss, norm: (math.nan, math.nan) for number in (4, 5, 9)})
    assert finetune(dataset, tmp_path, **{"loss_health.patience": 2}) == 0
    assert [(entry["step"], entry["action"]) for entry in noted(tmp_path)] == [(step, "skipped") for step in (4, 5, 9)]
    with open(tmp_path / "curves" / "loss.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in rows if row["skipped"] == "1"] == [4, 5, 9]


def test_a_spike_goes_back_to_the_checkpoint_and_on_behind_the_data(dataset, disturbed, tmp_path):
    calls = disturbed({18: lambda loss, norm: (loss * 50, norm)})
    assert finetune(dataset, tmp_path, **{"loss_health.spike_factor": 5.0, "loss_health.rewind": True}) == 0
    (entry,) = noted(tmp_path)
    assert entry["step"] == 18 and entry["verdict"] == "spike" and entry["action"] == "went back to step 15"
    assert len(calls) == 27  # 18, and the 9 from step 15 to 24
    plain = tmp_path / "plain"
    assert finetune(dataset, plain, **{"runner_config.max_steps": 15}) == 0


def test_the_page_about_a_run_needs_nothing_else(dataset, disturbed, tmp_path, capsys):
    disturbed({3: lambda loss, norm: (math.nan, math.nan)})
    assert finetune(dataset, tmp_path / "run", **{"loss_health.patience": 1, "runner_config.max_steps": 8}) == 0
    (tmp_path / "run" / "mbpp").mkdir()
    result = {"task_id": "11", "passed": False, "reason": "<NameError>", "answer": "def f(): ..."}
    (tmp_path / "run" / "mbpp" / "results.jsonl").write_text(json.dumps(result) + "\n")
    assert main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    for part in ("data:image/png;base64,", "<td>not finite</td>", "<td>skipped</td>", "mindspore", "max_steps",
                 "problem 11: failed: &lt;NameError&gt;", "TFLOP/s"):  # fmt: skip
        assert part in page, part
    assert "http" not in page.replace("https://", "").split("<h2>Command")[0]
    assert main(["report", str(tmp_path)]) == 2
    assert "is not a training run" in capsys.readouterr().err
