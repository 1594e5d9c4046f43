"""The original entry points on softcann, in one process or several from a rank table, and the same on CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from cluster import write_table
from conftest import REPOSITORY
from parallel.test_data_parallel import losses

from mindcoder.checkpoint.store import newest_checkpoint
from softcann.environment import emulator_environment


def entry(run_mode: str, model: str = "wizardcoder", **flags) -> list[str]:
    """``research/MODEL/run_MODEL.py`` and its arguments.

    Args:
        flags: a dotted name is a key of the configuration, a value of None stands for a flag without one.
    """
    arguments = [f"research/{model}/run_{model}.py", "--run_mode", run_mode]
    for name, value in flags.items():
        arguments += ["--set", f"{name}={value}"] if "." in name else [f"--{name}", *([] if value is None else [value])]
    return [str(item) for item in arguments]


def on_cpu(arguments: Sequence[str]) -> str:
    """What the run prints on MindSpore's CPU backend; it must succeed."""
    command = [sys.executable, *arguments, "--device_target", "CPU"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def on_emulator(arguments: Sequence[str], log: Path | None = None) -> str:
    """The same on MindSpore's Ascend backend."""
    command = [sys.executable, *arguments, "--device_target", "Ascend"]
    environment = emulator_environment(log)
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def start_ranks(arguments: Sequence[str], ranks: int, folder: Path, log: Path | None = None) -> subprocess.Popen:
    """``scripts/run_singlenode.sh "python …" RANK_TABLE [0,N] N`` on the emulator.

    Args:
        folder: gets the rank table, and what ranks print in ``folder/log``.
        log: of softcann, of all ranks.
    """
    command = " ".join([sys.executable, *arguments, "--device_target", "Ascend", "--use_parallel", "True"])
    script = ["scripts/run_singlenode.sh", command, str(write_table(folder, ranks)), f"[0,{ranks}]", str(ranks)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = emulator_environment(log, PATH=path, SOFTCANN_HCCL_TIMEOUT="600")  # a busy machine compiles unevenly
    return subprocess.Popen(
        ["bash", *script, "--log_dir", str(folder / "log")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=environment,
    )


def finish(process: subprocess.Popen, timeout: float = 1200) -> tuple[int, str, str]:
    """Exit code, what was said on stderr and what was printed."""
    try:
        printed, errors = process.communicate(timeout=timeout)
        return process.returncode, errors, printed
    except subprocess.TimeoutExpired:
        process.terminate()  # the launcher ends its ranks
        process.communicate(timeout=60)
        raise


def assert_same_losses(first: Path, second: Path, steps: int, within: float = 1e-5) -> None:
    """The losses of two runs, relative: ``within`` is what other orders of float32 sums made in tests/parallel."""
    ours, theirs = losses(first), losses(second)
    assert sorted(ours) == sorted(theirs) == list(range(1, steps + 1))
    for step, loss in theirs.items():
        assert ours[step] == pytest.approx(loss, rel=within), step


def assert_same_weights(first: Path, second: Path) -> None:
    """Whole tensors of the last checkpoints, whoever wrote them."""
    found = []
    for folder in (first, second):
        checkpoint = newest_checkpoint(folder / "checkpoint")
        assert checkpoint is not None
        found.append({name: plan.read() for name, plan in checkpoint.tensors("model").items()})
    assert found[0] and found[0].keys() == found[1].keys()
    for name, weight in found[0].items():
        if not name.endswith("key.bias"):  # without rotation its gradient is noise around zero, which Adam amplifies
            np.testing.assert_allclose(weight, found[1][name], atol=2e-5, err_msg=name)
