"""Whole runs through the command line: resuming bit for bit, signals, damaged checkpoints."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import mindcoder
from conftest import REPOSITORY, SAMPLES

from mindcoder.checkpoint.store import list_steps, newest_checkpoint
from mindcoder.folder_lock import folder_lock

TINY = REPOSITORY / "configs" / "wizardcoder" / "tiny_finetune.yaml"
SETTINGS = {
    "runner_config.epochs": 4,
    "runner_config.batch_size": 2,
    "model.model_config.seq_length": 256,
    "model.model_config.vocab_size": 700,
    "model.model_config.pad_token_id": 699,
    "model.model_config.hidden_size": 32,
    "model.model_config.num_layers": 1,
    "model.model_config.dropout_prob": 0.1,
    "callbacks.1.save_checkpoint_steps": 5,
    "callbacks.1.keep_checkpoint_max": 3,
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, tokenizer_folder):
    """A dataset of the samples and the uninterrupted run's losses."""
    folder = tmp_path_factory.mktemp("runs")
    done = mindcoder(
        "preprocess",
        "--input_glob",
        SAMPLES,
        "--vocab_file",
        tokenizer_folder / "tokenizer.json",
        "--seq_length",
        256,
        "--packing",
        "--output_file",
        folder / "d.mindrecord",
    )
    assert done.returncode == 0, done.stderr
    done = finetune(folder, "whole")
    assert done.returncode == 0, done.stderr
    return folder


def command_line(folder: Path, name: str, *extra, sets=None) -> list[str]:
    changed = {**SETTINGS, **(sets or {})}
    flags = [text for key, value in changed.items() for text in ("--set", f"{key}={value}")]
    return [
        "finetune",
        "--config",
        str(TINY),
        "--train_data",
        str(folder / "d.mindrecord"),
        "--output_dir",
        str(folder / name),
        *flags,
        *map(str, extra),
    ]


def finetune(folder: Path, name: str, *extra, sets=None) -> subprocess.CompletedProcess:
    return mindcoder(*command_line(folder, name, *extra, sets=sets))


def losses(folder: Path) -> list[tuple[str, str]]:
    with open(folder / "curves" / "loss.csv", newline="") as stream:
        return [(row["step"], row["loss"]) for row in csv.DictReader(stream)]


def interrupted(workspace: Path, name: str, number: signal.Signals, after: int) -> tuple[int, str]:
    """Start a run, signal it once ``after`` updates are logged; gives exit code and screen."""
    command = [sys.executable, "-m", "mindcoder.cli.main", *command_line(workspace, name)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    curve = workspace / name / "curves" / "loss.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if curve.is_file() and len(curve.read_text().splitlines()) > after:
            break
        time.sleep(0.02)
    process.send_signal(number)
    screen, _ = process.communicate(timeout=120)
    return process.returncode, screen


def test_a_run_leaves_curves_and_its_last_checkpoints(workspace):
    whole = workspace / "whole"
    steps = len(losses(whole))
    assert steps > 30 and float(losses(whole)[-1][1]) < float(losses(whole)[0][1]) - 0.5
    names = [path.name for path in list_steps(whole / "checkpoint")]
    assert len(names) == 3 and names[-1] == f"step_{steps:08d}"
    assert (whole / "curves" / "loss.png").read_bytes()[:4] == b"\x89PNG"
    assert list((whole / "tensorboard").glob("events.*"))
    assert "step 1/" in (whole / "log" / "mindcoder.log").read_text()


@pytest.mark.parametrize(
    "number, after", [(signal.SIGTERM, 13), pytest.param(signal.SIGKILL, 18, marks=pytest.mark.long)]
)
def test_resuming_repeats_the_uninterrupted_losses_bit_for_bit(workspace, number, after):
    name = f"cut-{number.name}"
    code, screen = interrupted(workspace, name, number, after)
    done_before = newest_checkpoint(workspace / name / "checkpoint").step
    if number == signal.SIGTERM:
        assert code == 128 + signal.SIGTERM and "SIGTERM: stopped after step" in screen
        assert done_before == len(losses(workspace / name))
    else:
        assert code == -signal.SIGKILL and done_before >= after - after % 5  # at most one interval lost
    resumed = finetune(workspace, name, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert f"resuming after step {done_before}" in resumed.stderr
    assert losses(workspace / name) == losses(workspace / "whole")


def test_a_damaged_checkpoint_is_passed_over(workspace):
    shutil.copytree(workspace / "whole", workspace / "damaged")
    *_, good, newest = list_steps(workspace / "damaged" / "checkpoint")
    with open(newest / "model.safetensors", "r+b") as stream:
        stream.seek(-4, os.SEEK_END)
        stream.write(b"\0\1\2\3")
    done = finetune(workspace, "damaged", "--resume")
    assert done.returncode == 0, done.stderr
    assert "content differs from its manifest; trying the previous one" in done.stderr
    assert f"resuming after step {int(good.name[5:])}" in done.stderr
    assert losses(workspace / "damaged") == losses(workspace / "whole")


@pytest.mark.long
def test_accumulation_and_evaluation_while_training_resume_too(workspace):
    sets = {
        "runner_config.gradient_accumulation_steps": 2,
        "runner_config.max_steps": 12,
        "do_eval": True,
        "eval_step_interval": 4,
    }
    evaluated = ["--eval_dataset", workspace / "d.mindrecord"]
    done = finetune(workspace, "accumulated", *evaluated, sets=sets)
    assert done.returncode == 0 and "perplexity" in done.stdout, done.stderr
    shutil.copytree(workspace / "accumulated", workspace / "accumulated-cut")
    shutil.rmtree(list_steps(workspace / "accumulated-cut" / "checkpoint")[-1])
    done = finetune(workspace, "accumulated-cut", "--resume", *evaluated, sets=sets)
    assert "resuming after step 10" in done.stderr
    for curve in ("loss.csv", "eval.csv"):
        rows = [
            list(csv.DictReader((workspace / name / "curves" / curve).read_text().splitlines()))
            for name in ("accumulated", "accumulated-cut")
        ]
        assert [(row["step"], row["loss"]) for row in rows[0]] == [(row["step"], row["loss"]) for row in rows[1]]


def test_float16_logs_the_overflow_and_goes_on(workspace):
    done = finetune(
        workspace,
        "half",
        sets={
            "model.model_config.compute_dtype": "float16",
            "runner_config.max_steps": 8,
            "runner_wrapper.scale_sense": json.dumps({"loss_scale_value": 2**40, "scale_window": 1000}),
        },
    )
    assert done.returncode == 0, done.stderr
    assert "step 1: gradient overflow, update skipped, loss scale" in done.stderr


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time of change, but the log's."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "log"]
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("fewer", [0, 3])
def test_resuming_a_finished_run_does_nothing_and_says_so(workspace, fewer):
    steps, before = len(losses(workspace / "whole")), tree(workspace / "whole")
    done = finetune(workspace, "whole", "--resume", sets={"runner_config.max_steps": steps - fewer})
    assert done.returncode == 0, done.stderr
    assert f"nothing to do: step {steps} of {steps - fewer} is done; raise runner_config.max_steps" in done.stderr
    assert tree(workspace / "whole") == before


def test_with_every_checkpoint_damaged_resuming_is_refused(workspace):
    shutil.copytree(workspace / "whole", workspace / "ruined")
    for folder in list_steps(workspace / "ruined" / "checkpoint"):
        (folder / "manifest.json").write_bytes(b"\x80\x04binary")
    before = tree(workspace / "ruined")
    done = finetune(workspace, "ruined", "--resume")
    assert done.returncode == 2, done.stderr
    assert "every checkpoint here is damaged (step_" in done.stderr and "nothing was changed" in done.stderr
    assert tree(workspace / "ruined") == before


def test_a_second_run_in_a_folder_that_is_in_use_is_refused(workspace):
    before = tree(workspace / "whole")
    with folder_lock(workspace / "whole"):
        done = finetune(workspace, "whole", "--overwrite")
    assert done.returncode == 2 and f"is in use by process {os.getpid()} on " in done.stderr, done.stderr
    assert tree(workspace / "whole") == before


def test_all_that_a_run_writes_has_the_permissions_that_umask_gives(workspace):
    mask = os.umask(0o022)
    os.umask(mask)
    for path in (path for path in workspace.rglob("*") if path.is_file()):
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask, path


def test_a_second_run_does_not_overwrite_the_first(workspace):
    done = finetune(workspace, "whole")
    assert done.returncode == 2 and "already holds checkpoints" in done.stderr and "--resume" in done.stderr


def test_resuming_with_another_batch_size_is_refused(workspace):
    done = finetune(workspace, "whole", "--resume", sets={"runner_config.batch_size": 3})
    assert done.returncode == 2 and "an update of 2 rows (batch_size 2 x accumulate 1) instead of 3" in done.stderr
    done = finetune(workspace, "whole", "--resume", sets={"model.model_config.hidden_size": 64})
    assert done.returncode == 2 and "hidden_size 32 instead of 64" in done.stderr


def test_a_stream_trains_and_resumes_at_its_record(workspace, tokenizer_folder, tmp_path):
    source = tmp_path / "code.jsonl"
    source.write_text(
        "".join(json.dumps({"text": f"def f{i}(x):\n    return {i} * x\n" * 3}) + "\n" for i in range(60))
    )
    data = {"train_dataset.data_loader.streaming": True, "train_dataset.data_loader.fim_rate": 0.5}
    sets = {**data, "runner_config.max_steps": 10, "lr_schedule.total_steps": 10}
    flags = ("--train_data", source, "--vocab_file", tokenizer_folder / "tokenizer.json")
    done = finetune(workspace, "stream", *flags, sets=sets)
    assert done.returncode == 0, done.stderr
    whole = losses(workspace / "stream")
    assert len(whole) == 10 and not (workspace / "stream" / "data").exists()
    shutil.copytree(workspace / "stream", workspace / "stream_again")
    shutil.rmtree(list_steps(workspace / "stream_again" / "checkpoint")[-1])
    done = finetune(workspace, "stream_again", *flags, "--resume", sets=sets)
    assert done.returncode == 0 and "resuming after step 5" in done.stderr, done.stderr
    assert losses(workspace / "stream_again") == whole
    endless = finetune(workspace, "endless", *flags, sets=data)
    assert endless.returncode == 2 and "runner_config.max_steps" in endless.stderr
    binary = finetune(workspace, "binary", sets=sets)
    assert binary.returncode == 2 and "streaming reads .json and .jsonl" in binary.stderr


@pytest.mark.long
def test_batches_cut_to_their_length_train_alike_and_resume(workspace, tokenizer_folder):
    target = workspace / "padded.mindrecord"
    tokenizer = ("--vocab_file", tokenizer_folder / "tokenizer.json")
    sizes = ("--seq_length", 256, "--output_file", target)
    assert mindcoder("preprocess", "--input_glob", SAMPLES, *tokenizer, *sizes).returncode == 0
    sets = {"train_dataset.data_loader.length_buckets": "[160, 192]", "runner_config.epochs": 1}
    done = finetune(workspace, "cut", "--train_data", target, sets=sets)
    assert done.returncode == 0, done.stderr
    whole = losses(workspace / "cut")
    shutil.copytree(workspace / "cut", workspace / "cut_again")
    shutil.rmtree(list_steps(workspace / "cut_again" / "checkpoint")[-1])
    done = finetune(workspace, "cut_again", "--train_data", target, "--resume", sets=sets)
    assert done.returncode == 0 and "resuming" in done.stderr, done.stderr
    assert losses(workspace / "cut_again") == whole
