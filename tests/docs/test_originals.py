"""docs/originals.md: every command of the original documents has its row, and what stands for it here runs."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, SHARED_DATA

from docs.originals import PAGES, make_workspace, marks, original_commands, rows

DOCUMENTS = SHARED_DATA.parent / "originals"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_original_documents_has_its_row(page):
    files = sorted(DOCUMENTS.glob("*.txt"))
    if not files:
        pytest.skip(f"{DOCUMENTS} is absent: the original documents are not part of the project")
    table = rows(page)
    found = [(file.name, command) for file in files for command in original_commands(file.read_text(encoding="utf-8"))]
    assert len(found) > 150
    lacking = [(name, command) for name, command in found
               if not any(all(mark in row.original for mark in marks(command)) for row in table)]  # fmt: skip
    assert not lacking, lacking[:5]


def test_both_languages_have_the_same_commands():
    english, chinese = map(rows, PAGES)
    assert [(row.section, row.here) for row in english] == [(row.section, row.here) for row in chinese]


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_there_is_said(page):
    words = ("quantiz", "MindSpore Lite", "MindIR") if page == PAGES[0] else ("量化", "MindSpore Lite", "MindIR")
    for row in rows(page):
        assert row.here or row.remark, row.original
        if "mslite_path" in row.original:
            assert not row.here and any(word in row.remark for word in words), row.original
        if "w8a8" in row.original:
            assert any("--method w8a8" in command for command in row.here), row.original
        if any(name in row.original for name in ("wizardcoder_mslite", "mbpp_gen_mslite")):
            assert row.here and "GraphCell" in row.remark and "MindSpore Lite" in row.remark, row.original


def test_the_flags_of_every_command_here_exist():
    """Without running anything: the scripts that a row names are there."""
    for row in rows(PAGES[0]):
        for command in row.here:
            scripts = [word.strip('"') for word in command.split() if word.strip('"').endswith((".py", ".sh"))]
            assert all((REPOSITORY / name).is_file() for name in scripts), command


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, small_tokenizer, hf_folder):
    folder = tmp_path_factory.mktemp("originals")
    make_workspace(folder, small_tokenizer, hf_folder)
    problem = {
        "task_id": "HumanEval/0",
        "prompt": "def f(x):\n",
        "entry_point": "f",
        "canonical_solution": "    return x",
        "test": "def check(f):\n    assert f(1) == 1",
    }
    with gzip.open(folder / "HumanEval.jsonl.gz", "wt") as stream:
        stream.write(json.dumps(problem) + "\n")
    return folder


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
    }


def prepare(command: str, folder: Path) -> None:
    """What the original document has its readers make by hand: the folder of parts."""
    if "distribute_model_ckpt_path/" in command:
        run(
            "python -m mindcoder.cli.main convert ./ckpt distribute_model_ckpt_path --to ckpt --model_parallel 4",
            folder,
        )


def run(command: str, folder: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment(), capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"


@pytest.mark.docs
@pytest.mark.parametrize("section", range(1, 7))
def test_the_commands_run(section, workspace):
    commands = [command for row in rows(PAGES[0]) if row.section == section for command in row.here]
    assert commands
    for command in commands:
        prepare(command, workspace)
        run(command, workspace)


@pytest.mark.docs
def test_what_the_commands_leave_behind(workspace):
    """After the commands of all sections."""
    for name in (
        "ckpt/rank_0/architecture.json", "dataset/alpaca_data.mindrecord", "mbpp_npu_online.json",
        "output/answers.jsonl", "bin/model.safetensors", "multibatch_performance_starcoder_0.csv",
        "output/wizard_performance_batch_1.csv",
    ):  # fmt: skip
        assert (workspace / name).is_file(), name
    assert len((workspace / "output" / "answers.jsonl").read_text().splitlines()) == 2
