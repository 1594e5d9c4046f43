"""Faults in a real two-process training run: the job ends, says why, and resumes with the same losses."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time

import psutil
import pytest
from cluster import launch, write_table
from conftest import REPOSITORY
from parallel.test_data_parallel import arguments, dataset, losses, run_cluster, run_single  # noqa: F401

pytestmark = pytest.mark.long

# The losses of one process differ from two by the order of sums, which sixty steps at this rate amplify.
CLOSE = 3e-4
SETS = {
    "lr_schedule.learning_rate": 1e-3,
    "runner_config.epochs": 60,
    "runner_config.max_steps": 60,
    "callbacks.1.save_checkpoint_steps": 5,
    "parallel_config.optimizer_shard": True,
}


@pytest.fixture(scope="module")
def single(dataset, tmp_path_factory):  # noqa: F811
    output = tmp_path_factory.mktemp("single")
    run_single(dataset, output, 4, **SETS)
    return losses(output)


def start(dataset, output, *more) -> subprocess.Popen:  # noqa: F811
    sets = {**SETS, "parallel_config.data_parallel": 2}
    parts = [sys.executable, "-m", "mindcoder.cli.main", *arguments(dataset, output, 2, "wizardcoder", **sets)]
    command = ["launch", "--command", " ".join([*parts, "--use_parallel", "True"])]
    flags = ["--rank_table", str(write_table(output, 2)), "--log_dir", str(output / "log"), *more]
    return subprocess.Popen(
        [sys.executable, "-m", "mindcoder.cli.main", *command, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def worker_of(process: subprocess.Popen, rank: int) -> int:
    for child in psutil.Process(process.pid).children():
        if child.environ().get("RANK_ID") == str(rank):
            return child.pid
    raise AssertionError(f"rank {rank} does not run")


def wait_for_checkpoint(output, process) -> None:
    limit = time.monotonic() + 600  # CI's machines compile four times slower than a desktop
    while not (output / "checkpoint" / "step_00000005").is_dir():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_a_killed_worker_ends_the_job_and_resuming_gives_the_same_losses(dataset, single, tmp_path):  # noqa: F811
    process = start(dataset, tmp_path)
    wait_for_checkpoint(tmp_path, process)
    children = psutil.Process(process.pid).children(recursive=True)
    began = time.monotonic()
    os.kill(worker_of(process, 1), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert process.returncode == 137 and "rank 1 was killed by SIGKILL; its log: " in errors
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    run_cluster(dataset, tmp_path, 2, 2, "--resume", **SETS)
    assert losses(tmp_path) == pytest.approx(single, rel=CLOSE)


@pytest.mark.cluster
def test_ctrl_c_saves_on_all_ranks_and_resumes(dataset, single, tmp_path):  # noqa: F811
    process = start(dataset, tmp_path)
    wait_for_checkpoint(tmp_path, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    stopped = sorted((tmp_path / "checkpoint").iterdir())[-1]
    assert int(stopped.name[5:]) < 60 and (stopped / "manifest.json").is_file()
    run_single(dataset, tmp_path, 4, "--resume", **SETS)
    assert losses(tmp_path) == pytest.approx(single, rel=CLOSE)


@pytest.mark.cluster
def test_a_full_disk_on_one_rank_ends_the_job_and_leaves_what_was_there(dataset, tmp_path):  # noqa: F811
    sets = {"callbacks.1.save_checkpoint_steps": 5, "callbacks.1.keep_checkpoint_max": 9}
    run_cluster(dataset, tmp_path, 2, 2, **{**sets, "runner_config.max_steps": 5})
    before = {path: path.read_bytes() for path in sorted((tmp_path / "checkpoint").rglob("*.safetensors"))}
    parts = [sys.executable, "-m", "mindcoder.cli.main", *arguments(dataset, tmp_path, 2, "wizardcoder", **sets)]
    run = " ".join([*parts, "--use_parallel", "True", "--resume", "--set", "parallel_config.data_parallel=2"])
    # Files of rank 1 may have 400 KB, less than its part of a checkpoint.
    limited = f"if [ $RANK_ID = 1 ]; then ulimit -f 400; fi; exec {run}"
    done = launch(f"bash -c {shlex.quote(limited)}", 2, tmp_path)
    assert done.returncode == 2 and "rank 1 ended with exit code 2" in done.stderr
    assert "[rank 1] mindcoder: error: " in done.stderr and "no disk space left to write it" in done.stderr
    whole = {path: path.read_bytes() for path in sorted((tmp_path / "checkpoint").rglob("step_*/*.safetensors"))
             if not path.parent.name.startswith(".")}  # fmt: skip
    assert whole == before
    run_cluster(dataset, tmp_path, 2, 2, "--resume", **sets)
    assert sorted(losses(tmp_path)) == list(range(1, 21))
    assert not list((tmp_path / "checkpoint").glob(".step_*"))


@pytest.mark.cluster
def test_a_lost_device_leaves_fewer_replicas_and_the_same_losses(dataset, single, tmp_path):  # noqa: F811
    process = start(dataset, tmp_path, "--max_restarts", "1", "--fewer_replicas")
    wait_for_checkpoint(tmp_path, process)
    os.kill(worker_of(process, 0), signal.SIGKILL)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert "1 instead of 2 data-parallel replicas of 4 sequences each, without the device of rank 0" in errors
    assert losses(tmp_path) == pytest.approx(single, rel=CLOSE)
