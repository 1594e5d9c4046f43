"""`mindcoder` and the scripts in this process: a process of their own takes seconds to import MindSpore.

For tests of what a command does. Those of what a process is (signals, closed descriptors, what is imported, threads by
an environment variable) start one.
"""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch

from conftest import REPOSITORY

from mindcoder.cli.main import main


def mindcoder(*arguments: object) -> CompletedProcess[str]:
    """Exit code and both streams of a verb; relative paths are the repository's."""
    words = [str(item) for item in arguments]
    return _finished(lambda: main(words), words, REPOSITORY)


def script(path: Path, *arguments: object, cwd: Path = REPOSITORY) -> CompletedProcess[str]:
    """Exit code and both streams of a Python file that is run as a program."""
    words = [str(path), *(str(item) for item in arguments)]

    def run() -> int:
        with patch.object(sys, "argv", words):
            runpy.run_path(words[0], run_name="__main__")
        return 0

    return _finished(run, words, cwd)


def _finished(call: Callable[[], int], words: list[str], cwd: Path) -> CompletedProcess[str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(cwd):
        try:
            code = call()
        except SystemExit as ended:
            code = ended.code
    return CompletedProcess(words, code, out.getvalue(), err.getvalue())
