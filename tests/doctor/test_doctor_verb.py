"""`mindcoder doctor`: what it prints, its exit codes, and hosts on which much is broken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from ascend_host import ascend_host, program
from conftest import REPOSITORY

from mindcoder import __version__
from mindcoder.cli import doctor_verb
from mindcoder.cli.main import main
from mindcoder.doctor import examine as examining
from mindcoder.doctor.host import Host
from mindcoder.doctor.report import Row, summary

# As if packages were not installed, which every other verb imports.
WITHOUT_PACKAGES = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("numpy", "yaml", "pydantic", "mindspore", "tqdm", "tokenizers", "jinja2"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from mindcoder.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def rows_of(*found: Row):
    """Stands for the checks."""
    return lambda host: iter(found)


def command(*words: str, code: str = "", **options) -> subprocess.CompletedProcess:
    begin = [sys.executable, "-c", code] if code else [sys.executable, "-m", "mindcoder.cli.main"]
    options = {"env": os.environ | {"PYTHONPATH": str(REPOSITORY)}, "cwd": REPOSITORY, **options}
    return subprocess.run([*begin, *words], capture_output=True, text=True, timeout=150, **options)


@pytest.mark.parametrize("status, code", [("ok", 0), ("note", 0), ("problem", 1)])
def test_a_problem_is_exit_code_1(status, code, monkeypatch, capsys):
    monkeypatch.setattr(doctor_verb, "examine", rows_of(Row("Python", "ok", "3.11"), Row("disk", status, "x", "do y")))
    assert main(["doctor"]) == code
    last = f"2 checks: {'2 ok' if status == 'ok' else f'1 ok, 1 {status}'}"
    expected = ["ok       Python              3.11", f"{status:7}  disk                x; do y", last]
    assert capsys.readouterr().out.splitlines() == expected


def test_as_json(monkeypatch, capsys):
    monkeypatch.setattr(doctor_verb, "examine", rows_of(Row("CANN", "problem", "8.1\n\x1b[1m", "install 9.0.0")))
    assert main(["doctor", "--json", "--device_target", "Ascend"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "mindcoder": __version__,
        "device_target": "Ascend",
        "problems": 1,
        "rows": [{"check": "CANN", "status": "problem", "found": "8.1 \\x1b[1m", "advice": "install 9.0.0"}],
    }


def test_bad_usage_is_exit_code_2(capsys):
    with pytest.raises(SystemExit) as end:
        main(["doctor", "--device_target", "GPU"])
    assert end.value.code == 2 and "found 'GPU'" in capsys.readouterr().err


def test_a_check_that_fails_or_hangs_does_not_hold_up_the_others(monkeypatch):
    def fails():
        raise RuntimeError("of\nits own")

    listed = [("one", fails), ("two", lambda: time.sleep(100)), ("three", lambda: Row("three", "ok", "x"))]
    monkeypatch.setattr(examining, "checks", lambda host: listed)
    monkeypatch.setattr(examining, "CHECK_SECONDS", 1.0)
    rows = list(examining.examine(Host()))
    assert [(row.check, row.status) for row in rows] == [("one", "problem"), ("two", "problem"), ("three", "ok")]
    assert rows[0].line().endswith("the check failed: RuntimeError: of its own")
    assert summary(rows) == "3 checks: 1 ok, 2 problems"


def test_an_ascend_host_gets_all_checks_and_a_machine_without_cards_only_its_own(tmp_path):
    cpu = [name for name, _ in examining.checks(Host(environment={}))]
    ascend = [name for name, _ in examining.checks(ascend_host(tmp_path))]
    only = {"driver", "npu-smi", "CANN", "CANN's parts", "HCCL variables", "dispatch threads", "MindSpore on Ascend"}
    assert set(ascend) - set(cpu) == only and set(cpu) <= set(ascend)


def test_this_machine():
    begin = time.monotonic()
    done = command("doctor", "--json", "--device_target", "CPU")
    assert time.monotonic() - begin < 90  # 55 seconds of checks at most, and the start on a busy machine
    told = json.loads(done.stdout)
    assert told["device_target"] == "CPU" and done.returncode == (1 if told["problems"] else 0)
    status = {row["check"]: row["status"] for row in told["rows"]}
    assert status["Python"] == status["mindspore"] == status["numpy"] == "ok"


def test_a_host_on_which_nothing_is_right(tmp_path):
    (tmp_path / "table.json").write_text("[" * 100_000)
    broken = {
        "PATH": "/nowhere:\0"[:8],
        "PYTHONPATH": str(REPOSITORY),
        "TMPDIR": "/proc",
        "RANK_TABLE_FILE": str(tmp_path / "table.json"),
        "ASCEND_HOME_PATH": "x" * 5000,
        "CXX": "$(reboot)",
        "HCCL_CONNECT_TIMEOUT": "\x1b[2J",
        "LANG": "C",
    }
    gone = tmp_path / "gone"
    gone.mkdir()
    inside = f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})\n"
    code = inside + "import sys; from mindcoder.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = command("doctor", "--device_target", "Ascend", code=code, env=broken)
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    assert "\x1b" not in done.stdout and "the check failed" not in done.stdout
    lines = done.stdout.splitlines()
    assert all(len(line) < 600 for line in lines) and lines[-1].count("checks:") == 1
    for problem in ("Ascend cards", "driver", "CANN", "working folder", "rank table", "HCCL variables"):
        assert any(line.startswith("problem") and problem in line for line in lines), problem


def test_an_installation_that_lacks_packages_is_told_so():
    done = command("plan", "--config", "x", code=WITHOUT_PACKAGES)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "cannot be imported" in done.stderr and "mindcoder doctor" in done.stderr
    damaged = WITHOUT_PACKAGES.replace("ModuleNotFoundError(f", "RuntimeError('its ABI\\nis another', f").replace(
        ", name=name", ""
    )
    done = command("plan", "--config", "x", code=damaged)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "cannot be imported: RuntimeError" in done.stderr
    done = command("doctor", code=WITHOUT_PACKAGES)
    assert "checks:" in done.stdout and "Traceback" not in done.stderr


def test_ctrl_c_ends_it_and_what_it_has_started(tmp_path):
    host = ascend_host(tmp_path / "host")
    program(tmp_path / "host/bin", "npu-smi", f"echo $$ > {tmp_path / 'pid'}; exec sleep 1000")
    code = (
        "import sys\nfrom pathlib import Path\nfrom mindcoder.cli import doctor_verb\n"
        "from mindcoder.doctor import ascend\nfrom mindcoder.doctor.host import Host\n"
        f"doctor_verb.Host = lambda: Host(Path({str(host.root)!r}))\nascend.SMI_SECONDS = 100.0\n"
        "from mindcoder.cli.main import main\nsys.exit(main(['doctor', '--device_target', 'Ascend']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=dict(os.environ) | dict(host.environment) | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    limit = time.monotonic() + 60
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < limit
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "mindcoder: interrupted\n")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_modules_of_the_working_folder_are_not_imported(tmp_path):
    (tmp_path / "numpy.py").write_text("raise SystemExit('taken for numpy')")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mindcoder.cli.main", "doctor"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert "taken for numpy" not in done.stdout + done.stderr
    assert "ok       import mindspore" in done.stdout


def test_nobody_reads_it():
    process = subprocess.Popen(
        [sys.executable, "-m", "mindcoder.cli.main", "doctor"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    assert process.wait(60) == 2


def test_it_does_not_speak_to_the_network(monkeypatch):
    import socket

    def refuse(*_):
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name, work in examining.checks(Host()):
        if name not in ("import mindspore", "sandbox"):  # processes of their own
            assert not any("a connection" in row.found for row in examining.answered(name, work, Host())), name
