"""The original scripts of MindIR and MindSpore Lite, one after the other as their document has them."""

from __future__ import annotations

import json

import pytest
from command import script
from conftest import REPOSITORY
from families import random_model

SCRIPTS = REPOSITORY / "research" / "wizardcoder"


@pytest.mark.long
def test_export_inference_and_mbpp(tmp_path, tokenizer_folder):
    random_model(layers=1, vocab_size=701, n_positions=512).save_pretrained(tmp_path / "ckpt")
    done = script(
        SCRIPTS / "export_wizardcoder_inc.py",
        *("--device_id", 0, "--batch_size", 1, "--seq_length", 320, "--model_path", tmp_path / "ckpt"),
        *("--tokenizer_path", tokenizer_folder / "tokenizer.json", "--output_dir", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    assert [line.rpartition("/")[2] for line in done.stdout.splitlines()] == [
        "prefill_graph.mindir", "decode_graph.mindir", "score_graph.mindir",
    ]  # fmt: skip
    given = ("--device_id", 0, "--tokenizer_path", tokenizer_folder / "tokenizer.json", "--device_target", "CPU")
    done = script(
        SCRIPTS / "inference_wizardcoder_mslite.py",
        *(*given, "--batch_size", 1, "--seq_length", 64, "--model_path", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    assert "run by MindSpore's GraphCell, not by MindSpore Lite" in done.stdout and "tokens/s" in done.stdout
    problem = {"task_id": 11, "text": "Add.", "code": "def f(x): return x", "test_list": ["assert f(1) == 1"]}
    (tmp_path / "mbpp.jsonl").write_text(json.dumps(problem) + "\n")
    answers = {}
    for name, model in (("mbpp_gen_mslite", "out"), ("mbpp_gen_online", "ckpt")):
        done = script(
            SCRIPTS / f"{name}.py",
            *(*given, "--start_index", 0, "--end_index", 1, "--mbpp_path", tmp_path / "mbpp.jsonl"),
            *("--seq_length", 320, "--model_path", tmp_path / model, "--output_path", tmp_path / name),
        )
        assert done.returncode == 0, done.stderr
        answers[name] = (tmp_path / name / "0.json").read_text()
    assert answers["mbpp_gen_mslite"] == answers["mbpp_gen_online"]


def test_a_folder_that_was_not_exported_is_refused(tmp_path):
    done = script(SCRIPTS / "inference_wizardcoder_mslite.py", "--model_path", tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path}: is not an exported folder: export_wizardcoder_inc.py makes one" in done.stderr
