"""The launcher with plain Python workers: faults, exit codes, logs, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import REPOSITORY

from mindcoder.parallel.rank_table import make_table

WORKER = """
import os, sys, time, signal, pathlib
rank, folder = int(os.environ["RANK_ID"]), pathlib.Path(sys.argv[1])
(folder / f"pid_{rank}").write_text(str(os.getpid()))
print("hello from", rank, os.environ["MS_WORKER_NUM"], os.environ["DEVICE_ID"], flush=True)
mode = sys.argv[2]
if mode == "raise" and rank == 2:
    time.sleep(1)
    raise ValueError("rank two has had enough")
if mode == "stop" and rank == 1:
    os.kill(os.getpid(), signal.SIGSTOP)
if mode == "child":
    import subprocess
    child = subprocess.Popen(["sleep", "1000"])
    (folder / f"pid_child_{rank}").write_text(str(child.pid))
if mode == "save":
    signal.signal(signal.SIGTERM, lambda number, frame: ((folder / f"saved_{rank}").write_text("x"), sys.exit(0)))
if mode == "restart":
    sys.exit(0 if os.environ.get("MINDCODER_RESTART") == "1" else 3)
if mode != "end":
    time.sleep(100)
"""


@pytest.fixture
def job(tmp_path):
    """Starts ``mindcoder launch`` without MindSpore's scheduler (the workers do not speak to each other)."""
    (tmp_path / "worker.py").write_text(WORKER)
    table = tmp_path / "table.json"
    table.write_text(json.dumps(make_table("127.0.0.1", range(4), ["127.0.0.1"] * 4).as_dict()))
    command = f"{sys.executable} {tmp_path / 'worker.py'} {tmp_path} "
    script = (
        "import sys, mindcoder.parallel.launch as launch\n"
        "launch.STOPPED_SECONDS = 2.0\n"
        "original = launch.Job._spawn\n"
        "def spawn(self, rank, command, variables, name):\n"
        "    command = [sys.executable, '-c', 'import time; time.sleep(100)'] if rank < 0 else command\n"
        "    return original(self, rank, command, variables, name)\n"
        "launch.Job._spawn = spawn\n"
        "from mindcoder.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )

    def start(mode: str, *flags: str) -> subprocess.Popen:
        arguments = ["launch", "--command", command + mode, "--rank_table", str(table)]
        arguments += ["--log_dir", str(tmp_path / "log")]
        return subprocess.Popen(
            [sys.executable, "-c", script, *arguments, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )

    return start


def finish(process: subprocess.Popen, seconds: float) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def wait_for(paths: list[Path]) -> None:
    limit = time.monotonic() + 20
    while not all(path.is_file() and path.read_text() for path in paths):
        assert time.monotonic() < limit, paths
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # whose parent is gone, in a container without init
    except psutil.NoSuchProcess:
        return False


def assert_all_gone(folder: Path) -> None:
    time.sleep(0.3)
    assert not [path.name for path in folder.glob("pid_*") if is_running(int(path.read_text()))]


def test_every_rank_runs_and_has_its_log(job, tmp_path):
    code, out, err = finish(job("end"), 30)
    assert code == 0, err
    assert out == "hello from 0 4 0\n"  # rank 0 is shown
    for rank in range(4):
        assert (tmp_path / "log" / f"rank_{rank}.log").read_text() == f"hello from {rank} 4 {rank}\n"


def test_an_exception_in_one_rank_ends_the_job_with_its_traceback(job, tmp_path):
    code, _, err = finish(job("raise"), 40)
    assert code == 1
    assert "[rank 2] ValueError: rank two has had enough" in err
    assert "mindcoder: rank 2 ended with exit code 1; its log: " in err
    assert_all_gone(tmp_path)


def test_a_killed_worker_ends_the_job_at_once_and_leaves_no_child(job, tmp_path):
    process = job("child")
    wait_for([tmp_path / f"pid_child_{rank}" for rank in range(4)])
    began = time.monotonic()
    os.kill(int((tmp_path / "pid_3").read_text()), signal.SIGKILL)
    code, _, err = finish(process, 40)
    assert code == 128 + signal.SIGKILL and "rank 3 was killed by SIGKILL" in err
    assert time.monotonic() - began < 20
    assert_all_gone(tmp_path)


def test_a_stopped_worker_is_named_and_the_job_ends(job, tmp_path):
    code, _, err = finish(job("stop"), 40)
    assert code == 1 and "rank 1 hangs: it has been stopped (SIGSTOP)" in err
    assert_all_gone(tmp_path)


def test_ctrl_c_lets_every_rank_save(job, tmp_path):
    process = job("save")
    wait_for([tmp_path / f"pid_{rank}" for rank in range(4)])
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    code, _, _ = finish(process, 30)
    assert code == 128 + signal.SIGINT
    assert all((tmp_path / f"saved_{rank}").is_file() for rank in range(4))
    assert_all_gone(tmp_path)


def test_workers_die_with_a_killed_launcher(job, tmp_path):
    process = job("wait")
    wait_for([tmp_path / f"pid_{rank}" for rank in range(4)])
    process.kill()
    process.communicate()
    assert_all_gone(tmp_path)


def test_restarts_tell_the_run_to_resume(job):
    code, _, err = finish(job("restart", "--max_restarts", "2"), 40)
    assert code == 0 and "restart 1 of 2" in err and "restart 2" not in err


@pytest.mark.parametrize(
    "flags, expected",
    [
        (["--world_size", "8"], "holds 4 ranks, the command line says 8"),
        (["--device_range", "[2,6)"], r"server 127.0.0.1 has ranks [0, 1, 2, 3], not [4, 5] of [2,6)"),
        (["--rank_table", "nowhere.json"], "nowhere.json: no such rank table; tools/hccl_tools.py makes one"),
    ],
)
def test_what_cannot_work_is_said_before_anything_starts(flags, expected, job, tmp_path):
    code, _, err = finish(job("end", *flags), 20)
    assert code == 2 and expected in err
    assert not (tmp_path / "log").exists()
