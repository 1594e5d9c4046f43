"""The launcher with plain Python workers: faults, exit codes, logs, nothing left behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import REPOSITORY

from mindcoder.cli.launch_verb import launch_verb
from mindcoder.cli.main import build_parser
from mindcoder.errors import UserError
from mindcoder.launch.rank_table import make_table, merge_tables

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
if mode == "escape":
    import subprocess
    child = subprocess.Popen(["setsid", "sleep", "1000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (folder / f"pid_child_{rank}").write_text(str(child.pid))
if mode == "vanish":
    import subprocess
    subprocess.run(["bash", "-c", "env -i setsid sleep 1000 & echo $! > " + str(folder / f"pid_child_{rank}")])
if mode in ("save", "endless"):
    def save(number, frame):
        time.sleep(0.5)
        (folder / f"saved_{rank}").write_text("x")
        sys.exit(0)
    signal.signal(signal.SIGTERM, save)
    (folder / f"ready_{rank}").write_text("x")
while mode == "endless":
    print("x" * 1000, flush=True)
    time.sleep(0.005)
if mode == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / f"ready_{rank}").write_text("x")
if mode == "much":
    print("y" * 300_000, flush=True)
    sys.exit(0)
if mode == "lingering":
    (pathlib.Path(os.environ["MINDCODER_DONE_FILE"])).write_text(str(os.getpid()))
    time.sleep(100 if rank == 1 else 0)
    sys.exit(0)
if mode in ("crash", "crash_done") and rank == 1:
    if mode == "crash_done":
        (pathlib.Path(os.environ["MINDCODER_DONE_FILE"])).write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGSEGV)
if mode == "crash_done":
    time.sleep(1)
    (pathlib.Path(os.environ["MINDCODER_DONE_FILE"])).write_text(str(os.getpid()))
    sys.exit(0)
if mode == "early" and rank == 2:
    sys.exit(0)
if mode == "early_but_done":
    if rank == 0:
        time.sleep(4)
    open(os.environ["MINDCODER_DONE_FILE"], "w").close()
    sys.exit(0)
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
        "import sys, mindcoder.launch.launcher as launcher\n"
        "launcher.STOPPED_SECONDS = launcher.DONE_SECONDS = 2.0\n"
        "original = launcher.Job._spawn\n"
        "def spawn(self, rank, command, variables, name):\n"
        "    command = [sys.executable, '-c', 'import time; time.sleep(100)'] if rank < 0 else command\n"
        "    return original(self, rank, command, variables, name)\n"
        "launcher.Job._spawn = spawn\n"
        "from mindcoder.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )

    def start(mode: str, *flags: str, wrapper: str = "{}", **options) -> subprocess.Popen:
        arguments = ["launch", "--command", wrapper.format(command + mode), "--rank_table", str(table)]
        arguments += ["--log_dir", str(tmp_path / "log")]
        return subprocess.Popen(
            [sys.executable, "-c", script, *arguments, *flags],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": REPOSITORY, **options},
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


@pytest.mark.parametrize("mode", ["wait", "escape"])
def test_a_killed_launcher_takes_what_wrappers_started_along(mode, job, tmp_path):
    process = job(mode, wrapper='bash -c "{}; true"')
    wait_for([tmp_path / f"pid_{'child_' if mode == 'escape' else ''}{rank}" for rank in range(4)])
    process.kill()
    process.wait()
    limit = time.monotonic() + 20
    while any(is_running(int(path.read_text())) for path in tmp_path.glob("pid_*")) and time.monotonic() < limit:
        time.sleep(0.05)
    assert_all_gone(tmp_path)


def test_what_left_its_session_and_its_environment_ends_with_the_job(job, tmp_path):
    process = job("vanish", "--grace_seconds", "1")
    wait_for([tmp_path / f"pid_child_{rank}" for rank in range(4)])
    process.terminate()
    finish(process, 30)
    assert_all_gone(tmp_path)


def test_what_a_wrapper_started_may_save_and_nothing_is_left(job, tmp_path):
    process = job("save", wrapper='bash -c "{}; true"')
    wait_for([tmp_path / f"ready_{rank}" for rank in range(4)])
    process.terminate()
    code, _, err = finish(process, 30)
    assert code == 128 + signal.SIGTERM
    assert err == "mindcoder: SIGTERM: the ranks save and end (within 60 s)\n"
    assert all((tmp_path / f"saved_{rank}").is_file() for rank in range(4))
    assert_all_gone(tmp_path)


def test_a_rank_that_does_not_hear_has_a_deadline(job, tmp_path):
    process = job("deaf", "--grace_seconds", "1")
    wait_for([tmp_path / f"ready_{rank}" for rank in range(4)])
    process.terminate()
    code, _, err = finish(process, 20)
    assert code == 128 + signal.SIGTERM
    assert "rank 0, rank 1, rank 2, rank 3 did not end within 1 s: killed (--grace_seconds)" in err
    assert_all_gone(tmp_path)


def test_a_second_signal_ends_the_ranks_at_once(job, tmp_path):
    process = job("deaf")
    wait_for([tmp_path / f"ready_{rank}" for rank in range(4)])
    process.terminate()
    time.sleep(0.5)
    process.terminate()
    code, _, err = finish(process, 20)
    assert code == 128 + signal.SIGTERM and "SIGTERM came again: the ranks are killed" in err
    assert_all_gone(tmp_path)


def test_a_closed_terminal_lets_every_rank_save(job, tmp_path):
    process = job("save")
    wait_for([tmp_path / f"ready_{rank}" for rank in range(4)])
    process.send_signal(signal.SIGHUP)
    code, _, _ = finish(process, 30)
    assert code == 128 + signal.SIGHUP
    assert all((tmp_path / f"saved_{rank}").is_file() for rank in range(4))


def test_nohup_is_respected(job, tmp_path):
    process = job("save", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for([tmp_path / f"ready_{rank}" for rank in range(4)])
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None and not (tmp_path / "saved_0").exists()
    process.terminate()
    assert finish(process, 30)[0] == 128 + signal.SIGTERM


@pytest.mark.parametrize("closes_errors", [False, True])
def test_nobody_reads_the_output_any_more(closes_errors, job, tmp_path):
    more = {"stderr": subprocess.STDOUT} if closes_errors else {}
    process = job("endless", **more)
    assert process.stdout.readline() == "hello from 0 4 0\n"
    wait_for([tmp_path / f"ready_{rank}" for rank in range(4)])
    process.stdout.close()  # as head does
    assert process.wait(30) == 128 + signal.SIGPIPE
    if not closes_errors:
        assert process.stderr.read() == (
            "mindcoder: nobody reads the output any more: the ranks save and end (within 60 s)\n"
        )
    assert all((tmp_path / f"saved_{rank}").is_file() for rank in range(4))
    assert_all_gone(tmp_path)


def test_a_terminal_that_is_stopped_does_not_hold_up_the_end(job, tmp_path):
    process = job("endless")  # nobody reads the pipe, which is full soon
    wait_for([tmp_path / f"ready_{rank}" for rank in range(4)])
    log, size = tmp_path / "log" / "rank_0.log", -1
    while log.stat().st_size != size:
        size = log.stat().st_size
        time.sleep(0.5)
    process.terminate()
    assert process.wait(30) == 128 + signal.SIGTERM
    assert all((tmp_path / f"saved_{rank}").is_file() for rank in range(4))
    assert_all_gone(tmp_path)


def test_a_full_disk_under_the_logs_is_said_once(job, tmp_path):
    limit = 100_000  # bytes a file may have, as if the disk were full then
    code, out, err = finish(
        job("much", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))), 30
    )
    assert code == 0, err
    assert len(out) > 300_000  # the terminal shows all
    for rank in range(4):
        log = tmp_path / "log" / f"rank_{rank}.log"
        assert log.stat().st_size == limit
        said = f"mindcoder: {log}: File too large; the job goes on, what its rank prints is lost from here"
        assert err.count(said) == 1


def test_a_rank_that_ends_well_but_too_early_is_named(job, tmp_path):
    code, _, err = finish(job("early", "--early_exit_seconds", "2"), 30)
    assert code == 1
    assert "rank 2 ended (exit code 0) 1 s ago, but rank 0, rank 1, rank 3 still run; the job ends in" in err
    assert "mindcoder: rank 2 ended (exit code 0) 2 s ago, but rank 0, rank 1, rank 3 still run" in err
    assert_all_gone(tmp_path)


def test_a_rank_that_says_it_is_done_may_end_before_the_others(job, tmp_path):
    code, _, err = finish(job("early_but_done", "--early_exit_seconds", "1"), 30)
    assert code == 0 and err == ""
    assert not list((tmp_path / "log").glob(".*"))  # neither locks nor marks are left


def test_a_rank_that_is_done_but_does_not_end_is_ended(job, tmp_path):
    code, _, err = finish(job("lingering"), 30)
    assert code == 0 and err == "mindcoder: rank 1 is done, but did not end within 2 s: killed\n"
    assert_all_gone(tmp_path)


def test_a_rank_that_crashes_as_it_ends_is_done(job, tmp_path):
    code, _, err = finish(job("crash_done"), 30)
    assert code == 0 and err == "mindcoder: rank 1 is done, but was killed by SIGSEGV as it ended\n"
    code, _, err = finish(job("crash"), 30)  # the same amid its work
    assert code == 139 and "mindcoder: rank 1 was killed by SIGSEGV; its log: " in err
    assert_all_gone(tmp_path)


def test_restarts_tell_the_run_to_resume_and_keep_the_logs(job, tmp_path):
    code, _, err = finish(job("restart", "--max_restarts", "2"), 40)
    first = tmp_path / "log" / "attempt_1"
    assert code == 0 and f"restart 1 of 2; the logs of the failed attempt are in {first}" in err
    assert "restart 2" not in err
    for rank in range(4):
        assert (tmp_path / "log" / f"rank_{rank}.log").read_text() == f"hello from {rank} 4 {rank}\n"
    kept = [(first / f"rank_{rank}.log").read_text() for rank in range(4)]  # others may end before they say anything
    assert any(text == f"hello from {rank} 4 {rank}\n" for rank, text in enumerate(kept))


def test_two_jobs_do_not_share_a_log_folder(job, tmp_path):
    first = job("save")
    wait_for([tmp_path / f"ready_{rank}" for rank in range(4)])
    before = (tmp_path / "log" / "rank_0.log").read_bytes()
    code, _, err = finish(job("end"), 20)
    assert code == 2 and err.count("\n") == 1
    assert f"{tmp_path / 'log'}: rank 0 of another job writes its log here (process {first.pid} on " in err
    assert (tmp_path / "log" / "rank_0.log").read_bytes() == before and first.poll() is None
    first.terminate()
    assert finish(first, 30)[0] == 128 + signal.SIGTERM


def test_launchers_of_several_servers_need_the_port_after_the_schedulers(tmp_path):
    table = merge_tables(make_table(address, [0], [address]) for address in ("127.0.0.1", "127.0.0.2"))
    (tmp_path / "table.json").write_text(json.dumps(table.as_dict()))
    arguments = ["launch", "--command", "true", "--rank_table", str(tmp_path / "table.json"), "--device_range", "[0,1)"]
    parsed = build_parser().parse_args([*arguments, "--port", "65535"])
    with pytest.raises(UserError, match="--port: 65535 leaves no port after it for the launchers"):
        launch_verb(parsed)


@pytest.mark.parametrize(
    "flags, expected",
    [
        (["--world_size", "8"], "holds 4 ranks, the command line says 8"),
        (["--device_range", "[2,6)"], r"server 127.0.0.1 has ranks [0, 1, 2, 3], not [4, 5] of [2,6)"),
        (["--command", "no-such-program --flag"], "--command: no-such-program cannot be started: No such file"),
        (["--rank_table", "nowhere.json"], "nowhere.json: no such rank table; tools/hccl_tools.py makes one"),
    ],
)
def test_what_cannot_work_is_said_before_anything_starts(flags, expected, job, tmp_path):
    code, _, err = finish(job("end", *flags), 20)
    assert code == 2 and expected in err and err.count("\n") == 1
    assert not list(tmp_path.glob("pid_*"))
