"""The C++ operators of layers: ``layer_operators.py`` in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from conftest import REPOSITORY

CASES = Path(__file__).parent / "layer_operators.py"


def run(*chosen: str, **environment: str) -> str:
    """What pytest says of the cases."""
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", str(CASES), *chosen]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_values_and_gradients_equal_pytorchs() -> None:
    """With the library as MindSpore's operator plugin, which it reads once, before its first operator."""
    assert " passed, 1 skipped" in run(WITH_PLUGIN="1")


def test_without_the_plugin_the_same_cases_of_float32_hold() -> None:
    assert " passed" in run("-k", "float32 and not bfloat16 or views")
