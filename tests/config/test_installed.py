"""A copy of the package as a wheel has it, used outside the repository."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from mindcoder.config.shipped import shipped_folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder for ``sys.path`` with what ``pip install`` would put there, but for the compiled operators."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(folder)]
    done = subprocess.run(build, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def run(installed, folder, *command: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    call = [sys.executable, "-m", "mindcoder.cli.main", *command]
    return subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_wheel_has_every_configuration(installed):
    theirs = {file.relative_to(installed / "mindcoder" / "configs") for file in installed.rglob("*.yaml")}
    assert theirs == {file.relative_to(shipped_folder()) for file in shipped_folder().rglob("*.yaml")} and theirs


def test_recipes_are_found_by_name_and_by_their_path_in_the_repository(installed, tmp_path):
    (tmp_path / "mine.yaml").write_text("base: [models/tiny_llama, methods/tiny_lora]\nseed: x\n")
    names = ["wizardcoder/tiny_finetune", "configs/wizardcoder/tiny_finetune.yaml", "llama/llama2_7b_lora"]
    done = run(installed, tmp_path, "configs", "validate", *names, "mine.yaml")
    assert [line.split(":")[0] for line in done.stdout.splitlines() if ": valid" in line] == names
    assert done.returncode == 2 and done.stderr.startswith("mindcoder: error: mine.yaml:2: seed: found 'x', expected")
    shown = run(installed, tmp_path, "configs", "show", "wizardcoder/tiny_finetune")
    assert str(installed / "mindcoder" / "configs" / "methods" / "tiny_finetune.yaml") in shown.stdout
