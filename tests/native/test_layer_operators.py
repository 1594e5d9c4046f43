"""The C++ operators of layers: ``layer_operators.py`` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from conftest import REPOSITORY

from mindcoder.backend.library import LIBRARY

CASES = Path(__file__).parent / "layer_operators.py"


def test_values_and_gradients_equal_pytorchs() -> None:
    """With the library as MindSpore's operator plugin. It reads the variable once, before its first operator."""
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", str(CASES)]
    environment = {**os.environ, "MS_OP_PLUGIN_PATH": str(LIBRARY)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_without_the_plugin_the_same_cases_of_float32_hold() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", str(CASES)]
    chosen = "float32 and not bfloat16 and not drop_bits"
    environment = {name: value for name, value in os.environ.items() if name != "MS_OP_PLUGIN_PATH"}
    done = subprocess.run(
        [*command, "-k", chosen], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
