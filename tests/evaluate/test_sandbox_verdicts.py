"""What the sandbox's child may answer, and where no sandbox can be made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mindcoder.errors import UserError
from mindcoder.evaluate import sandbox as module
from mindcoder.evaluate.problems import Problem
from mindcoder.evaluate.protocol import named_protocol
from mindcoder.evaluate.run import Execution, judge, report
from mindcoder.evaluate.sandbox import BROKEN, Outcome, Sandbox, SandboxOptions
from mindcoder.evaluate.sandbox_cgroup import ControlGroup

NO_VERDICTS = {
    "list": b"[]",
    "number": b"1",
    "large number": b"9" * 10_000,
    "null": b"null",
    "text": b'"passed"',
    "true": b"true",
    "not a number": b"NaN",
    "nothing": b"",
    "zero": b"\0",
    "half an object": b'{"passed": true',
    "two objects": b'{"passed": true}{"passed": true}',
    "not UTF-8": b'{"passed": true, "error": "\xff"}',
    "half a character": b'{"passed": 1, "error": "\\ud800"}',
    "deep list": b"[" * 50_000,
    "deep object": b'{"a":' * 10_000,
    "huge": b'{"passed": true, "error": "' + b"x" * 10**6 + b'"}',
    "another type": b'{"passed": "yes"}',
    "another error": b'{"error": {"passed": true}}',
    "empty object": b"{}",
    "broken list": b'{"broken": [1, 2]}',
}


@pytest.mark.parametrize("case", NO_VERDICTS)
def test_an_answer_that_is_no_verdict_fails_one_program(case):
    outcome = Sandbox(SandboxOptions())._outcome(NO_VERDICTS[case])
    assert not outcome.passed and len(outcome.reason) < 400
    outcome.reason.encode("utf-8", "backslashreplace")


def test_what_the_child_writes_is_read_up_to_a_limit(monkeypatch, tmp_path):
    child = tmp_path / "child.py"
    child.write_text("import os\nwhile True: os.write(1, b'x' * 65536)")
    monkeypatch.setattr(module, "CHILD", child)
    assert Sandbox(SandboxOptions()).run("x = 1") == Outcome(False, "no verdict: more than a verdict")
    child.write_text("import sys\nsys.stdout.write('[1]')\nsys.exit(1)")
    assert list(Sandbox(SandboxOptions()).run_all(["x = 1"] * 2)) == [Outcome(False, "no verdict")] * 2


def test_too_long_a_program_is_not_run():
    outcome = Sandbox(SandboxOptions(isolation="limits")).run("#" * (5 * 2**20))
    assert outcome == Outcome(False, "the program has 5242880 characters, 4194304 at most are run")


def test_a_sandbox_that_fails_is_tried_again_and_reported(monkeypatch, tmp_path):
    sandbox, answers = Sandbox(SandboxOptions()), iter([OSError("no room"), b'{"passed": true}', b'{"broken": "x"}'])

    def start(order, folder):
        answer = next(answers, b'{"broken": "x"}')
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(sandbox, "_start", start)
    problems = [Problem(str(number), "", "", "", ("assert 1",)) for number in (11, 12)]
    chosen = {"split": "test", "problem_set": "0", "shots": 0, "samples": 1, "temperature": 0.0}
    held = named_protocol("bigcode", "mbpp", "plain", None, 512, None, top_p=1.0, top_k=0, seed=0, **chosen)
    judged = judge(sandbox, problems, {("11", 0): "", ("12", 0): ""}, held, workers=1)
    assert [(item.passed, item.reason) for item in judged] == [(True, ""), (False, f"{BROKEN}x")]
    lines = report(tmp_path, "m", problems, judged, held, Execution(True))
    assert "not run, counted as failed: 1 answers, first to problem 12 (x)" in lines


def test_without_namespaces_nothing_runs_and_the_message_says_what_to_do(monkeypatch):
    sandbox = Sandbox(SandboxOptions())
    monkeypatch.setattr(sandbox, "_start", lambda *given: b'{"broken": "unshare: Operation not permitted"}')
    with pytest.raises(UserError) as refused:
        sandbox.check()
    for words in ("unshare: Operation not permitted", "seccomp=unconfined", "--sandbox limits", "that you can lose"):
        assert words in str(refused.value)


def test_waiting_is_by_the_clock_that_cannot_be_set():
    for file in Path(module.__file__).parent.rglob("*.py"):
        assert not re.search(r"\btime\.time\(|datetime\.now\(", file.read_text(encoding="utf-8")), file


@pytest.fixture
def hierarchy(tmp_path, monkeypatch):
    """Version 2 as the kernel shows it: the job's own group gives no controllers on, the one above it does."""
    monkeypatch.setattr("mindcoder.evaluate.sandbox_cgroup.END_SECONDS", 0.0)
    mount, own = tmp_path / "cgroup", tmp_path / "own"
    (mount / "user.slice" / "session").mkdir(parents=True)
    for folder, controllers in (("", "memory pids"), ("user.slice", "memory pids"), ("user.slice/session", "")):
        (mount / folder / "cgroup.subtree_control").write_text(controllers)
        (mount / folder / "cgroup.procs").write_text("")
    own.write_text("1:name=systemd:/\n0::/user.slice/session\n")
    return mount, own


def test_a_control_group_limits_the_whole_program(hierarchy):
    mount, own = hierarchy
    group = ControlGroup.make(2**30, 40, mount, own)
    assert group is not None and group.path.parent == mount / "user.slice"
    written = {name: (group.path / name).read_text().strip() for name in ("memory.max", "memory.swap.max", "pids.max")}
    assert written == {"memory.max": str(2**30), "memory.swap.max": "0", "pids.max": "40"}
    assert not group.is_out_of_memory()
    (group.path / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
    assert group.is_out_of_memory()
    group.remove()
    assert (group.path / "cgroup.kill").read_text() == "1\n"


def test_without_control_groups_there_is_none(hierarchy, tmp_path):
    mount, own = hierarchy
    for folder in (mount, mount / "user.slice"):
        (folder / "cgroup.subtree_control").write_text("cpu")
    assert ControlGroup.make(2**30, 40, mount, own) is None
    own.write_text("4:memory:/job\n")  # version 1 only
    assert ControlGroup.make(2**30, 40, mount, own) is None
    assert ControlGroup.make(2**30, 40, mount, tmp_path / "none") is None
