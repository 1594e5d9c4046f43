"""Wrong input: one line that names the place, exit code 2, no stack trace, nothing written."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from command import script
from conftest import REPOSITORY, SAMPLES

TINY = REPOSITORY / "configs" / "wizardcoder" / "tiny_finetune.yaml"
RUN = REPOSITORY / "research" / "wizardcoder" / "run_wizardcoder.py"
DEVICE = "device: CPU (auto: no Ascend card)"
PREPROCESS = REPOSITORY / "research" / "wizardcoder" / "wizardcoder_preprocess.py"


@pytest.fixture
def bad_lines(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps({"instruction": "a", "output": "b"}) + "\n{broken\n")
    return path


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--config", "none.yaml"], "none.yaml: no such configuration file"),
        (["--config", TINY, "--train_data", "none.mindrecord"], "none.mindrecord: no such MindRecord file or folder"),
        (["--config", TINY], "finetune needs a dataset: --train_data"),
        (["--config", TINY, "--load_checkpoint", "nowhere", "--train_data", "x"], "nowhere: no such checkpoint"),
        (["--config", TINY, "--set", "runner_config.epcohs=1"], "did you mean 'epochs'?"),
        (["--config", TINY, "--use_parallel", "maybe"], "expected True or False, found 'maybe'"),
        (
            ["--config", TINY, "--use_parallel", "True", "--set", "parallel_config.data_parallel=2"],
            "but the number of processes is 1",
        ),
        (["--config", TINY, "--use_parallel", "True", "--set", "parallel_config.context_parallel=5"], "by 5"),
        (["--config", TINY, "--vocab_file", "v.json", "--merge_file", "m.txt"], "v.json: no such tokenizer file"),
        (["--confg", TINY], "--config"),
    ],
)
def test_run_script(arguments, expected):
    done = script(RUN, "--run_mode", "finetune", *arguments)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_vocabulary_larger_than_the_models(tokenizer_folder, tmp_path):
    done = script(
        RUN,
        "--run_mode",
        "finetune",
        "--config",
        TINY,
        "--set",
        "model.model_config.vocab_size=600",
        "--set",
        "model.model_config.pad_token_id=599",
        "--vocab_file",
        tokenizer_folder / "tokenizer.json",
    )
    assert done.returncode == 2
    assert "vocab_size: 600 is smaller than the tokenizer's 700" in done.stderr


def test_bad_json_names_the_line(bad_lines, tokenizer_folder, tmp_path):
    done = script(
        PREPROCESS,
        "--input_glob",
        bad_lines,
        "--vocab_file",
        tokenizer_folder / "vocab.json",
        "--merge_file",
        tokenizer_folder / "merges.txt",
        "--output_file",
        tmp_path / "out" / "o.mindrecord",
        "--seq_length",
        64,
    )
    assert done.returncode == 2 and f"{bad_lines}:2: record 1: bad JSON" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").iterdir()) if (tmp_path / "out").exists() else True


def test_debug_shows_the_stack(tmp_path):
    """In a process of its own, as a user starts it."""
    command = [sys.executable, RUN, "--run_mode", "eval", "--config", tmp_path / "none.yaml"]
    for flags in ([], ["--debug"]):
        done = subprocess.run([*command, *flags], capture_output=True, text=True, cwd=REPOSITORY, timeout=120)
        assert ("Traceback" in done.stderr) is bool(flags) and done.returncode != 0


def test_predict_without_weights_and_tokenizer():
    done = script(RUN, "--run_mode", "predict", "--config", TINY, "--predict_data", "x")
    assert done.returncode == 2 and "a tokenizer is needed" in done.stderr


def test_the_original_commands_end_to_end(tmp_path, tokenizer_folder):
    """preprocess, finetune, eval and predict by the original scripts and flags."""
    tokenizer = ["--vocab_file", tokenizer_folder / "vocab.json", "--merge_file", tokenizer_folder / "merges.txt"]
    done = script(
        PREPROCESS, "--input_glob", SAMPLES, *tokenizer, "--output_file", tmp_path / "d.mindrecord", "--seq_length", 384
    )
    assert done.returncode == 0 and "records 48 (rejected 0" in done.stdout, done.stderr
    common = [
        "--config",
        TINY,
        "--use_parallel",
        "False",
        "--device_id",
        0,
        *tokenizer,
        "--output_dir",
        tmp_path / "out",
        "--set",
        "model.model_config.vocab_size=700",
        "--set",
        "model.model_config.pad_token_id=699",
    ]
    done = script(
        RUN,
        "--run_mode",
        "finetune",
        *common,
        "--train_dataset",
        tmp_path / "d.mindrecord",
        "--set",
        "runner_config.epochs=2",
    )
    assert done.returncode == 0, done.stderr
    checkpoint = tmp_path / "out" / "checkpoint" / "step_00000012"
    assert f"checkpoint: {checkpoint}" in done.stdout and (tmp_path / "out/tokenizer/tokenizer.json").is_file()
    assert done.stderr.splitlines().count(DEVICE) == 1, "the device in use is said"
    assert DEVICE in (tmp_path / "out/log/mindcoder.log").read_text()
    assert json.loads((tmp_path / "out/run.json").read_text())["device"] == "CPU"
    done = script(
        RUN, "--run_mode", "eval", *common, "--load_checkpoint", checkpoint, "--output_dir", tmp_path / "nothing",
        "--eval_dataset", tmp_path / "d.mindrecord", "--set", "metric.type=EmF1Metric",
    )  # fmt: skip
    assert done.returncode == 0 and "perplexity" in done.stdout, done.stderr
    assert DEVICE in done.stderr.splitlines()
    assert "keys without effect here: 1; see --debug" in done.stderr and not (tmp_path / "nothing").exists()
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"instruction": f"task {n}", "id": n}) + "\n" for n in range(3)))
    done = script(
        RUN,
        "--run_mode",
        "predict",
        *common,
        "--load_checkpoint",
        tmp_path / "out",
        "--predict_data",
        prompts,
        "--predict_length",
        120,
        "--predict_batch",
        2,
        "--output_file",
        tmp_path / "a.jsonl",
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [item["id"] for item in answers] == [0, 1, 2]
    assert all(item["prompt_tokens"] + item["output_tokens"] <= 120 for item in answers)
    done = script(
        RUN,
        "--run_mode",
        "predict",
        *common,
        "--load_checkpoint",
        tmp_path / "out",
        "--predict_data",
        "hello",
        "--predict_length",
        30,
    )
    assert done.returncode == 2 and "leaves no room for an answer within 30" in done.stderr
    done = script(
        RUN,
        "--run_mode",
        "predict",
        *common,
        "--load_checkpoint",
        tmp_path / "out",
        "--predict_data",
        "hi",
        "--set",
        "model.model_config.hidden_size=64",
    )
    assert done.returncode == 2 and "hidden_size 128 instead of 64" in done.stderr
