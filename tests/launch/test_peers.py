"""Launchers of several servers: who is let in, what they tell each other, who is missed. Two servers on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY

from launch.test_launcher import is_running, wait_for
from mindcoder.launch import peers
from mindcoder.launch.peers import Event, Peers
from mindcoder.launch.rank_table import RankTable, make_table, merge_tables

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


def table_of(servers: int) -> RankTable:
    return merge_tables(make_table(address, [0, 1], [address] * 2) for address in ADDRESSES[:servers])


@pytest.fixture
def port() -> int:
    """Free, and the one after it too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            try:
                second.bind(("127.0.0.1", first.getsockname()[1] + 1))
            except OSError:
                continue
            return first.getsockname()[1]


@pytest.fixture
def join(port, monkeypatch):
    """Starts the launchers' connections in this process, with short times."""
    monkeypatch.setattr(peers, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(peers, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(peers, "GONE_SECONDS", 0.5)
    monkeypatch.setattr(peers, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(peers, "MISSING_SECONDS", 0.3)
    open_ones = []

    def start(index: int, servers: int = 2, table: RankTable | None = None, attempt: int = 0) -> Peers:
        table = table or table_of(servers)
        open_ones.append(Peers(table, table.servers[index], port, attempt))
        open_ones[-1].start()
        return open_ones[-1]

    yield start
    for item in open_ones:
        item.close()


def event(one: Peers, kind: str) -> Event:
    """The next event of a kind."""
    while True:
        found = one.events.get(timeout=10)
        if found.kind == kind:
            return found


def test_all_begin_when_the_last_one_has_come(join):
    second, third = join(1, 3), join(2, 3)  # before there is anybody to connect to
    first = join(0, 3)
    for one in (first, second, third):
        event(one, peers.START)


def test_a_failure_and_a_signal_reach_everybody(join):
    ones = [join(index, 3) for index in range(3)]
    for one in ones:
        event(one, peers.START)
    ones[1].interrupted(signal.SIGTERM)
    for one in (ones[0], ones[2]):
        assert event(one, peers.INTERRUPTED) == Event("interrupted", "server 127.0.0.2 (ranks 2 to 3)", 15)
    ones[2].failed("rank 5 was killed by SIGKILL", 137)
    for one in ones[:2]:
        text = "server 127.0.0.3 (ranks 4 to 5): rank 5 was killed by SIGKILL"
        assert event(one, peers.FAILED) == Event("failed", text, 137)


def test_the_job_is_over_when_all_are_done(join):
    first, second = join(0), join(1)
    event(first, peers.START), event(second, peers.START)
    first.done()
    time.sleep(0.3)
    assert first.events.empty() and second.events.empty()
    second.done()
    event(first, peers.OVER), event(second, peers.OVER)


def test_a_server_that_has_not_come_is_named(join):
    assert event(join(0), peers.MISSING).text == "server 127.0.0.2 (ranks 2 to 3)"


def test_without_the_first_server_the_others_name_it(join):
    assert event(join(1), peers.MISSING).text == "server 127.0.0.1 (ranks 0 to 1)"


def test_a_silent_server_is_named_by_both_sides(join):
    first, second = join(0), join(1)
    event(first, peers.START), event(second, peers.START)
    second._broadcast = lambda *_, **__: None  # as a stopped launcher
    assert event(first, peers.LOST).text == "server 127.0.0.2 (ranks 2 to 3) has not answered for 1 s"


def test_a_broken_connection_is_made_again(join):
    first, second = join(0), join(1)
    event(first, peers.START), event(second, peers.START)
    first._links[1].socket.shutdown(socket.SHUT_RDWR)
    time.sleep(1.5)
    assert first.events.empty() and peers.LOST not in {second.events.get().kind for _ in range(second.events.qsize())}
    second.failed("rank 2 ended with exit code 3", 3)
    assert event(first, peers.FAILED).number == 3


def test_another_rank_table_is_refused_on_both_sides(join):
    first = join(0)
    other = merge_tables([make_table("127.0.0.1", [0, 1], ["x", "y"]), make_table("127.0.0.2", [0, 1], ["x", "y"])])
    second = join(1, table=other)
    assert event(first, peers.NOTICE).text == ("a launcher at 127.0.0.1 is not let in: its rank table is not the same")
    text = "server 127.0.0.1 (ranks 0 to 1) refuses this launcher: its rank table is not the same"
    assert event(second, peers.LOST).text == text
    event(join(1), peers.START)  # the right one still comes in


def test_another_secret_is_refused(join, monkeypatch):
    monkeypatch.setenv("MINDCODER_JOB_SECRET", "one")
    first = join(0)
    monkeypatch.setenv("MINDCODER_JOB_SECRET", "two")
    event(join(1), peers.LOST)
    event(first, peers.NOTICE)


def test_launchers_of_different_attempts_do_not_mix(join):
    first, second = join(0), join(1, attempt=1)
    time.sleep(0.5)
    assert not first.started and not second.started
    first.close()
    event(join(0, attempt=1), peers.START)
    event(second, peers.START)


@pytest.mark.parametrize(
    "words",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x00" * 100_000,
        b"[" * 3000 + b"\n",
        b'{"server": 1, "attempt": 0, "identity": "x", "proof": "00", "challenge": "y"}\n',
        b'{"kind": "failed", "text": "lies", "number": 3}\n',
        b'{"server": [1], "proof": {}}\n7\n',
        b"",
    ],
)
def test_strangers_do_nothing(words, join, port):
    first, second = join(0), join(1)
    event(first, peers.START), event(second, peers.START)
    with socket.create_connection(("127.0.0.1", port), 5) as stranger:
        assert b"challenge" in stranger.recv(4096)
        stranger.settimeout(10)
        with contextlib.suppress(OSError):  # it is hung up on, perhaps at once
            stranger.sendall(words)
            stranger.shutdown(socket.SHUT_WR)
            while stranger.recv(4096):
                pass
    first.done(), second.done()
    kinds = []
    while not kinds or kinds[-1] != peers.OVER:
        kinds.append(first.events.get(timeout=10).kind)
    assert set(kinds) <= {peers.OVER, peers.NOTICE}


def test_many_strangers_do_not_keep_a_launcher_out(join, port):
    first = join(0)
    crowd = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(100)]
    event(join(1), peers.START)
    event(first, peers.START)
    for stranger in crowd:
        stranger.close()


WORKER = """
import os, sys, time, signal, pathlib
rank, folder = int(os.environ["RANK_ID"]), pathlib.Path(sys.argv[1])
def save(number, frame):
    (folder / f"saved_{rank}").write_text("x")
    sys.exit(0)
if sys.argv[2] == "save":
    signal.signal(signal.SIGTERM, save)
(folder / f"pid_{rank}").write_text(str(os.getpid()))
if sys.argv[2] == "once" and rank == 3 and os.environ.get("MINDCODER_RESTART") != "1":
    time.sleep(1)
    sys.exit(9)
time.sleep(1 if sys.argv[2] in ("end", "once") else 100)
"""


@pytest.fixture
def cluster(tmp_path, port):
    """Starts two launchers, one a server, without MindSpore's scheduler."""
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "table.json").write_text(json.dumps(table_of(2).as_dict()))
    script = (
        "import sys, mindcoder.launch.options as options, mindcoder.launch.peers as peers\n"
        "peers.GONE_SECONDS = 2.0\n"
        "options.LaunchOptions.starts_scheduler = False\n"
        "from mindcoder.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )

    def start(mode: str, *flags: str, servers=(0, 1)) -> list[subprocess.Popen]:
        command = f"{sys.executable} {tmp_path / 'worker.py'} {tmp_path} {mode}"
        arguments = ["launch", "--command", command, "--rank_table", str(tmp_path / "table.json")]
        arguments += ["--port", str(port), "--log_dir", str(tmp_path / "log"), *flags]
        return [
            subprocess.Popen(
                [sys.executable, "-c", script, *arguments, "--device_range", f"[{2 * index},{2 * index + 2})"],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
            )
            for index in servers
        ]  # fmt: skip

    return start


def ends(jobs: list[subprocess.Popen], seconds: float = 60) -> list[tuple[int, str]]:
    results = []
    for job in jobs:
        _, errors = job.communicate(timeout=seconds)
        results.append((job.returncode, errors))
    return results


def pids(folder):
    files = [folder / f"pid_{rank}" for rank in range(4)]
    wait_for(files)
    return [int(file.read_text()) for file in files]


def test_a_failure_on_one_server_ends_the_other(cluster, tmp_path):
    jobs = cluster("wait")
    ranks = pids(tmp_path)
    os.kill(ranks[2], signal.SIGKILL)
    (first, first_errors), (second, second_errors) = ends(jobs)
    assert first == second == 128 + signal.SIGKILL
    assert "mindcoder: server 127.0.0.2 (ranks 2 to 3): rank 2 was killed by SIGKILL" in first_errors
    assert "mindcoder: rank 2 was killed by SIGKILL; its log: " in second_errors
    assert not [pid for pid in ranks if is_running(pid)]


def test_a_signal_to_one_server_lets_all_ranks_save(cluster, tmp_path):
    jobs = cluster("save")
    pids(tmp_path)
    time.sleep(0.3)
    jobs[1].terminate()
    (first, errors), (second, _) = ends(jobs)
    assert first == second == 128 + signal.SIGTERM
    assert "mindcoder: SIGTERM on server 127.0.0.2 (ranks 2 to 3): the ranks save and end" in errors
    assert all((tmp_path / f"saved_{rank}").exists() for rank in range(4))


def test_a_launcher_that_is_killed_is_missed(cluster, tmp_path):
    jobs = cluster("wait")
    ranks = pids(tmp_path)
    jobs[0].kill()
    _, (code, errors) = ends(jobs)
    assert code == 1 and "server 127.0.0.1 (ranks 0 to 1) does not answer: its launcher has ended" in errors
    assert not [pid for pid in ranks if is_running(pid)]


@pytest.mark.cluster
def test_both_servers_start_again_together(cluster, tmp_path):
    for code, errors in ends(cluster("once", "--max_restarts", "1")):
        assert code == 0 and "restart 1 of 1; the logs of the failed attempt are in " in errors
    assert (tmp_path / "log" / "attempt_1" / "rank_0.log").is_file()


@pytest.mark.cluster
def test_a_server_without_the_other_one_ends(cluster):
    ((code, errors),) = ends(cluster("wait", "--join_seconds", "2", servers=[1]))
    assert code == 1 and "no answer from server 127.0.0.1 (ranks 0 to 1) for 2 s (--join_seconds)" in errors


@pytest.mark.cluster
def test_a_signal_ends_the_waiting_for_the_other_server(cluster):
    (job,) = cluster("wait", servers=[0])
    time.sleep(4)
    job.terminate()
    ((code, _),) = ends([job], 20)
    assert code == 128 + signal.SIGTERM


@pytest.mark.cluster
def test_both_servers_end_well(cluster):
    for code, errors in ends(cluster("end")):
        assert code == 0 and errors == ""
