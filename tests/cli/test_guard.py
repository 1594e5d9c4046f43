"""Whatever ends a command is one line on stderr with an exit code; the stack trace is for --debug."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from mindcoder.cli.arguments import number, whole_number
from mindcoder.cli.guard import describe, guarded
from mindcoder.cli.main import main
from mindcoder.errors import UserError, single_line


def raising(error: BaseException):
    def work() -> int:
        raise error

    return work


def one_line(text: str) -> str:
    assert len(text.strip().splitlines()) == 1 and "Traceback" not in text, text
    return text


@pytest.mark.parametrize(
    "error, expected",
    [
        (UserError("expected 3", "a.json", 4), "a.json:4: expected 3"),
        (UserError("first\nsecond\x1b[31m"), "first second\\x1b[31m"),
        (PermissionError(13, "Permission denied", "x.yaml"), "x.yaml: Permission denied"),
        (OSError(28, "No space left on device"), "no space left on the disk"),
        (IsADirectoryError(21, "Is a directory", b"/tmp"), "/tmp: Is a directory"),
        (OSError(18, "Invalid cross-device link", "a", None, "b"), "a -> b: Invalid cross-device link"),
        (TimeoutError("timed out"), "timed out"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (MemoryError(), "not enough memory"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "not utf-8: invalid start byte at byte 0"),
        (UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range"), "cannot be written"),
        (ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn"), "uvicorn cannot be imported"),
        (ValueError("embedded null byte"), "null byte"),
        (BrokenPipeError(32, "Broken pipe"), "standard output was closed"),
        (
            RuntimeError(
                "For 'MatMul', the shapes differ.\n\n-----\n- C++ Call Stack: (For framework developers)\n---"
            ),
            "MindSpore: For 'MatMul', the shapes differ. (--debug shows",
        ),
        (
            RuntimeError("\n----\n- Framework Error Message:\n----\nOut of memory on device."),
            "MindSpore: Out of memory on device. (--debug shows",
        ),
    ],
)
def test_wrong_input_and_a_failing_machine_are_one_line(error, expected, capfd):
    assert guarded(raising(error), debug=False) == 2
    assert expected in one_line(capfd.readouterr().err)


@pytest.mark.parametrize("error", [KeyError("x"), AssertionError(), ZeroDivisionError("division by zero")])
def test_our_own_faults_are_said_to_be_ours(error, capfd):
    assert guarded(raising(error), debug=False) == 1
    line = one_line(capfd.readouterr().err)
    assert "internal error: " in line and type(error).__name__ in line and "report" in line and "test_guard.py:" in line


def test_mindspores_own_errors_are_told_by_where_they_come_from():
    import mindspore as ms

    try:
        ms.ops.MatMul()(ms.ops.ones((2, 3)), ms.ops.ones((4, 5)))
    except ValueError as error:
        line, code = describe(error)
    assert code == 2 and line.startswith("error: MindSpore: For 'MatMul'") and "\n" not in line


def test_debug_shows_the_stack_and_keeps_the_exit_code(capfd):
    assert guarded(raising(UserError("no")), debug=True) == 2
    err = capfd.readouterr().err
    assert "Traceback" in err and err.splitlines()[-1] == "mindcoder: error: no"


def test_interrupted(capfd):
    assert guarded(raising(KeyboardInterrupt()), debug=False) == 130
    assert one_line(capfd.readouterr().err) == "mindcoder: interrupted\n"


@pytest.mark.parametrize(
    "redirection, code, expected",
    [
        ("| :", 2, "standard output was closed"),
        ("> /dev/full", 2, "no space left"),
        (">&-", 2, "standard output was closed"),
        ("2>&-", 0, None),
        (">&- 2>&-", 2, None),
        ("2>&- | :", 2, None),
    ],
)
def test_outputs_that_nobody_reads(redirection, code, expected):
    """A closed descriptor is not given to the next file opened; a full or closed one causes no traceback."""
    program = (
        "import sys; from mindcoder.cli.guard import guarded\n"
        "def work():\n"
        "    opened = open('/dev/null')\n"
        "    assert opened.fileno() > 2, opened.fileno()\n"
        "    print('x' * 300_000)\n"
        "    return 0\n"
        "sys.exit(guarded(work, False))"
    )
    done = subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {redirection}; exit ${{PIPESTATUS[0]}}', sys.executable, program],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == code, done.stderr
    assert (expected in one_line(done.stderr)) if expected else not done.stderr


def test_help_is_quiet_when_its_reader_leaves(capfd):
    script = "import sys; from mindcoder.cli.main import main; sys.exit(main(['serve', '--help']))"
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" | :', sys.executable, script],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert not done.stderr


@pytest.mark.parametrize("arguments", ["'--help'", "'serve', '--help'", "'--version'"])
@pytest.mark.parametrize(
    "redirection, code, expected",
    [(">&-", 2, "standard output was closed"), ("> /dev/full", 2, "no space left"), ("| :", 0, ""), ("", 0, "")],
)
def test_help_that_cannot_be_written_is_an_error_as_with_ls(arguments, redirection, code, expected):
    script = f"import sys; from mindcoder.cli.main import main; sys.exit(main([{arguments}]))"
    done = subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {redirection}; exit ${{PIPESTATUS[0]}}', sys.executable, script],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == code, done.stderr
    assert (expected in one_line(done.stderr)) if expected else not done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "x", "--port", "99999"],
        ["serve", "x", "--port", "-1"],
        ["serve", "x", "--port", "²"],
        ["serve", "x", "--max_waiting", "9" * 5000],
        ["chat", "x", "--temperature", "nan"],
        ["chat", "x", "--temperature", "-1"],
        ["chat", "x", "--top_p", "0"],
        ["chat", "x", "--seed", "-1"],
        ["chat", "x", "--max_input_length", "0"],
        ["launch", "--rank_table", "x", "--command", "x", "--port", "70000"],
        ["launch", "--rank_table", "x", "--command", "x", "--max_restarts", "-1"],
        ["plan", "--config", "x", "--tflops", "nan"],
        ["eval-code", "x", "--shots", "-1"],
        ["train", "--config", "x", "--device_id", "-1"],
        ["train", "--config", "x", "--seed", "1e3"],
        ["chat\nx"],
    ],
)
def test_flags_out_of_range_are_one_line(arguments, capfd):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and len(one_line(capfd.readouterr().err)) < 800


def test_numbers_of_flags():
    assert whole_number(0, 9)("7") == 7 and number(0, 1)("0.5") == 0.5
    assert number(0)("0") == 0
    with pytest.raises(argparse.ArgumentTypeError, match="expected 0 or a number of at least 1.2e-38"):
        number(0)("1e-320")


def test_single_line():
    assert single_line("a\n  b\r\n\x00c\u202e") == "a b \\x00c\\u202e" and len(single_line("x" * 9000)) == 2000
