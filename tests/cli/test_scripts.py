"""The seeds' scripts under research/, with the seeds' flags."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY

from mindcoder.checkpoint.weights import open_weights


def script(name: str, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, str(REPOSITORY / "research" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=300)


@pytest.mark.parametrize("model", ["wizardcoder", "llama"])
def test_weights_go_to_mindspore_and_back(model, hf_folder, tmp_path):
    _, _, folder = hf_folder("gpt_bigcode" if model == "wizardcoder" else "llama")
    there = script(f"{model}/convert_weight.py", "--torch_path", folder, "--mindspore_path", tmp_path / "ms")
    assert there.returncode == 0, there.stderr
    back = script(f"{model}/convert_reversed.py", "--mindspore_path", tmp_path / "ms", "--torch_path", tmp_path / "hf")
    assert back.returncode == 0, back.stderr
    before, after = open_weights(folder).parameters(), open_weights(tmp_path / "hf").parameters()
    assert all(np.array_equal(before[name].read(), after[name].read()) for name in before)


def test_mbpp_answers_and_their_score_go_through_two_scripts(served_folder, tmp_path):
    problem = {"task_id": 11, "text": "Add.", "code": "def f(x): return x", "test_list": ["assert f(1) == 1"]}
    (tmp_path / "mbpp.jsonl").write_text(json.dumps(problem))
    flags = (
        served_folder,
        "--data",
        tmp_path / "mbpp.jsonl",
        "--output_dir",
        tmp_path / "out",
        "--max_output_length",
        8,
    )
    done = script("wizardcoder/mbpp_gen_online.py", *flags)
    assert done.returncode == 0 and "1 answers in" in done.stdout, done.stderr
    refused = script("wizardcoder/mbpp_process.py", *flags)
    assert refused.returncode == 2 and "--allow-code-execution" in refused.stderr
    scored = script("wizardcoder/mbpp_process.py", *flags, "--allow-code-execution", "--sandbox", "limits")
    assert scored.returncode == 0 and "pass@1: 0.000" in scored.stdout, scored.stderr
