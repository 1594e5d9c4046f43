"""Programs on softcann by hand: folders, the command ``python -m softcann.environment``, exports for a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from softcann import environment
from softcann.environment import emulator_environment, run_on_emulator

pytestmark = pytest.mark.long  # on the emulator, whose build takes minutes

SCRIPT = """
import sys
from pathlib import Path
import mindspore as ms
ms.set_device("Ascend", 0)
print(ms.mint.add(ms.Tensor([1.0]), ms.Tensor([2.0])).asnumpy(), Path(sys.argv[1]).read_text())
"""


def test_relative_paths_of_a_script_and_the_log_are_the_callers(tmp_path: Path, monkeypatch) -> None:
    """And MindSpore misses nothing but CANN's compiler of old operators, as docs/ascend.md says."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here/script.py").write_text(SCRIPT)
    (tmp_path / "note.txt").write_text("a note")
    monkeypatch.chdir(tmp_path)
    (done,) = run_on_emulator(["here/script.py", "note.txt"], log=Path("log.jsonl"))
    assert done.returncode == 0 and "[3.] a note" in done.output, done.output
    missed = [line for line in done.output.splitlines() if line.startswith(("[ERROR]", "[CRITICAL]"))]
    assert [line for line in missed if "'te'" not in line and '"te"' not in line] == []
    events = [json.loads(line) for line in Path("log.jsonl").read_text().splitlines()]
    assert any(event["name"].startswith("aclnnAdd") for event in events if event["event"] == "aclnn")


def test_a_source_runs_elsewhere_and_its_log_is_the_callers(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (done,) = run_on_emulator("import os; print(os.getcwd(), os.environ['SOFTCANN_LOG'])", log=Path("log.jsonl"))
    folder, log = done.output.split()
    assert folder != str(tmp_path) and log == str(tmp_path / "log.jsonl")


def command(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "softcann.environment", *arguments]
    return subprocess.run(whole, capture_output=True, text=True, cwd=REPOSITORY, env=os.environ | more, timeout=300)


def test_a_command_runs_with_these_variables_and_the_code_is_its_own(tmp_path: Path) -> None:
    program = "import os, sys; print(os.environ['ASCEND_HOME_PATH'], sys.argv[1:]); sys.exit(7)"
    done = command("--log", str(tmp_path / "log"), "python", "-c", program, "--log", "x", PATH="/usr/bin:/bin")
    assert done.returncode == 7 and done.stderr == ""
    assert done.stdout.split(maxsplit=1) == [str(environment.HOME), "['--log', 'x']\n"]


def test_the_printed_lines_make_a_shells_environment_the_emulators() -> None:
    lines = command("--print", RANK_ID="3").stdout
    names = ["ASCEND_HOME_PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "GLOG_v"]
    show = "; ".join(f'echo "${name}"' for name in names)
    done = subprocess.run(
        ["bash", "-c", f'eval "$LINES"; {show}; echo "${{RANK_ID-none}}"'],
        env=os.environ | {"LINES": lines, "RANK_ID": "3"},
        capture_output=True,
        text=True,
    )
    wanted = emulator_environment()
    assert done.stdout.splitlines() == [wanted[name] for name in names] + ["none"]


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "expected a command or --print"),
        (["--print", "ls"], "expected a command or --print"),
        (["no-such-program"], "softcann: no-such-program: No such file or directory"),
    ],
)
def test_what_cannot_run_is_said_in_a_line(arguments: list[str], said: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2 and said in done.stderr.splitlines()[-1]
