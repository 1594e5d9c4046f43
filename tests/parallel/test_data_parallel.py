"""Data-parallel runs against one process: losses, weights, resuming on another number of processes."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cluster import launch
from conftest import REPOSITORY, SAMPLES

from mindcoder.checkpoint.store import open_checkpoint
from mindcoder.data.preprocess import PreprocessOptions, preprocess
from mindcoder.families.registry import FAMILIES
from mindcoder.parallel.zero1 import owners

pytestmark = pytest.mark.long

STEPS = 20
SIZES = {
    "model.model_config.seq_length": 192,
    "model.model_config.num_layers": 4,
    "model.model_config.vocab_size": 701,  # divisible by no number of slices
    "model.model_config.pad_token_id": 699,
    "lr_schedule.warmup_steps": 2,
    "lr_schedule.learning_rate": 3e-4,
    "optimizer.eps": 1e-6,
    "runner_config.epochs": 20,
    "runner_config.max_steps": STEPS,
}


@pytest.fixture(scope="module")
def dataset(small_tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "samples.mindrecord"
    preprocess(PreprocessOptions(str(SAMPLES), path, 192, True, workers=1, show_progress=False), small_tokenizer)
    return path


def arguments(dataset, output, batch: int, model: str, **sets) -> list[str]:
    settings = {**SIZES, "runner_config.batch_size": batch, **sets}
    flags = [item for key, value in settings.items() for item in ("--set", f"{key}={value}")]
    config = f"configs/{model}/tiny_finetune.yaml"
    if model in FAMILIES and model not in ("starcoder2", "llama"):  # which have recipes
        config = str(output.parent / f"{model}.yaml")
        output.parent.mkdir(parents=True, exist_ok=True)
        Path(config).write_text(f"base: [models/tiny_{model}, methods/tiny_finetune]\n")
    return ["finetune", "--config", config, "--train_data", str(dataset), "--output_dir", str(output), *flags]


def run_single(dataset, output, batch, *flags, model="wizardcoder", **sets):
    command = [sys.executable, "-m", "mindcoder.cli.main", *arguments(dataset, output, batch, model, **sets), *flags]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr


def run_cluster(dataset, output, batch, ranks, *flags, model="wizardcoder", **sets):
    sets = {"parallel_config.data_parallel": ranks, **sets}
    parts = [sys.executable, "-m", "mindcoder.cli.main", *arguments(dataset, output, batch, model, **sets), *flags]
    done = launch(" ".join([*parts, "--use_parallel", "True"]), ranks, output)
    assert done.returncode == 0, done.stderr
    return done


def losses(output) -> dict[int, float]:
    with open(output / "curves" / "loss.csv") as stream:
        return {int(row["step"]): float(row["loss"]) for row in csv.DictReader(stream)}


def weights_of(output) -> dict:
    """Whole tensors of the last checkpoint, whoever wrote them."""
    plans = open_checkpoint(output / "checkpoint" / f"step_{STEPS:08d}").tensors("model")
    return {name: plan.read() for name, plan in plans.items()}


def assert_same_run(first, second) -> None:
    ours, theirs = losses(first), losses(second)
    assert set(ours) == set(theirs) and len(ours) == STEPS
    for step, loss in theirs.items():
        assert ours[step] == pytest.approx(loss, rel=1e-5), step
    weights = [weights_of(item) for item in (first, second)]
    assert set(weights[0]) == set(weights[1])
    for name in weights[0]:
        if not name.endswith("key.bias"):  # without rotation its gradient is noise around zero, which Adam amplifies
            np.testing.assert_allclose(weights[0][name], weights[1][name], atol=2e-5, err_msg=name)


@pytest.fixture(scope="module")
def single(dataset, tmp_path_factory):
    output = tmp_path_factory.mktemp("single")
    run_single(dataset, output, 4)
    return output


def test_two_processes_follow_one(dataset, single, tmp_path):
    done = run_cluster(dataset, tmp_path, 2, 2)
    assert_same_run(tmp_path, single)
    assert "2 x 192 tokens on each of 2 processes" in done.stdout


@pytest.mark.cluster
def test_sharded_optimizer_follows_and_resumes_in_one_process(dataset, single, tmp_path):
    zero = {
        "parallel_config.optimizer_shard": True,
        "callbacks.1.save_checkpoint_steps": 5,
        "callbacks.1.keep_checkpoint_max": 9,
    }
    run_cluster(dataset, tmp_path, 2, 2, **zero)
    assert_same_run(tmp_path, single)
    checkpoint = tmp_path / "checkpoint"
    for step in ("step_00000010", f"step_{STEPS:08d}"):
        for path in (checkpoint / step).iterdir():
            path.unlink()
        (checkpoint / step).rmdir()
    run_single(dataset, tmp_path, 4, "--resume")
    assert_same_run(tmp_path, single)


@pytest.mark.cluster
def test_accumulation_over_two_processes_with_a_llama(dataset, tmp_path):
    accumulate = {"runner_config.gradient_accumulation_steps": 2}
    run_single(dataset, tmp_path / "single", 4, model="llama", **accumulate)
    zero = {"parallel_config.optimizer_shard": True}
    run_cluster(dataset, tmp_path / "cluster", 2, 2, model="llama", **accumulate, **zero)
    assert_same_run(tmp_path / "cluster", tmp_path / "single")


def test_a_mesh_of_another_size_is_one_clear_error(dataset, tmp_path):
    done = subprocess.run(
        [
            sys.executable, "-m", "mindcoder.cli.main", *arguments(dataset, tmp_path, 2, "wizardcoder"),
            "--use_parallel", "True", "--set", "parallel_config.data_parallel=2",
        ],
        capture_output=True, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 2
    assert "data 2 x tensor 1 x pipeline 1 makes 2 but the number of processes is 1 " in done.stderr
    command = " ".join(["mindcoder", *arguments(dataset, tmp_path, 2, "wizardcoder"), "--use_parallel", "True"])
    done = launch(command, 4, tmp_path)
    assert done.returncode == 2 and "makes 1 but the number of processes is 4" in done.stderr
    assert not (tmp_path / "log").exists()


def test_states_are_divided_evenly():
    shapes = [(700, 128)] + [(128, 128), (128,)] * 8
    owner = owners(shapes, 3)
    load = [sum(int(np.prod(shape)) for shape, rank in zip(shapes, owner) if rank == own) for own in range(3)]
    assert max(load) == 700 * 128 and load[1] == load[2]  # the table alone, the rest in halves
