"""Ctrl-C while a command is still importing: one line and 130, as later on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from conftest import REPOSITORY

from mindcoder.backend.device import signals_held
from mindcoder.cli.guard import guarded

INTERRUPTED = (130, "mindcoder: interrupted\n")
AT_IMPORT = """
import signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            sys.meta_path.remove(self)
            for _ in range({times}):
                signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
"""


def ended(module: str, work: str, times: int = 1) -> tuple[int, str]:
    """Exit code and standard error of ``work`` with Ctrl-C as ``module`` is looked for."""
    program = AT_IMPORT.format(module=module, times=times) + work
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, timeout=120)
    return done.returncode, done.stderr


@pytest.mark.parametrize("module", ["mindcoder.cli.guard", "mindcoder.cli.weight_verbs", "numpy.core.multiarray"])
@pytest.mark.parametrize("times", [1, 2])
def test_while_the_verbs_are_imported(module, times):
    command = "from mindcoder.cli.main import main; sys.exit(main(['inspect', 'nothing']))"
    assert ended(module, command, times) == INTERRUPTED


@pytest.mark.parametrize(
    "module, script, flags",
    [
        ("mindcoder.config.schema", "scripts.run_script", []),
        ("mindcoder.cli.data_verbs", "scripts.preprocess_script", []),
        ("mindcoder.cli.weight_verbs", "scripts.convert_weight_script", []),
        ("mindcoder.cli.weight_verbs", "scripts.convert_reversed_script", []),
        ("mindcoder.checkpoint.in_place", "scripts.convert_weights_script", ["--model_path", "none"]),
        ("mindcoder.evaluate.mbpp_files", "mbpp_scripts.mbpp_process_script", ["--path", "none", "--out_path", "x"]),
        ("mindcoder.generate.model", "run_pa_script.run_pa_script", ["--model_path", "none"]),
    ],
)
def test_while_an_original_script_imports(module, script, flags):
    place, name = script.split(".")
    more = ", 'X'" if name == "run_script" else ""
    command = f"from mindcoder.cli.{place} import {name}\nsys.argv[1:] = {flags}\nsys.exit({name}('x.py'{more}))"
    assert ended(module, command) == INTERRUPTED


@pytest.mark.parametrize("module", ["mindspore._c_expression", "scipy.ndimage", "mindspore.dataset"])
def test_while_mindspore_is_imported(module):
    """The abort came as the interpreter ended, with MindSpore half imported."""
    command = (
        "from mindcoder.backend.device import setup_device; from mindcoder.cli.guard import guarded\n"
        "sys.exit(guarded(lambda: setup_device('CPU') and 0, False))"
    )
    assert ended(module, command) == INTERRUPTED


def test_it_waits_for_the_end_and_handlers_are_given_back():
    handler = signal.getsignal(signal.SIGINT)
    reached = []
    with pytest.raises(KeyboardInterrupt), signals_held():
        os.kill(os.getpid(), signal.SIGINT)
        reached.append(True)
    assert reached and signal.getsignal(signal.SIGINT) is handler


def test_sigterm_with_a_handler_waits_too():
    got = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    try:
        with signals_held():
            os.kill(os.getpid(), signal.SIGTERM)
            assert not got
        assert got == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_may_import():
    done = []

    def work() -> None:
        with signals_held():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done


def test_an_import_error_that_comes_of_it_is_no_error(capsys):
    def work() -> int:
        raise ImportError("initialization failed") from KeyboardInterrupt()

    assert guarded(work, debug=False) == 130
    assert capsys.readouterr().err == INTERRUPTED[1]
