"""W8A8 folders, dynamic and static, where users meet them: serve, eval-code, complete with a draft, processes."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from cluster import launch
from command import mindcoder as verb
from conftest import REPOSITORY, SAMPLES
from parallel.test_data_parallel import SIZES, dataset, run_single  # noqa: F401
from parallel.test_layouts import layout
from served import Running

import mindcoder
from mindcoder.checkpoint.weights import open_weights

NEW = 12
PROBLEM = {
    "task_id": 11,
    "text": "Write a function f that adds one.",
    "code": "def f(x):\n    return x + 1",
    "test_setup_code": "",
    "test_list": ["assert f(1) == 2"],
}


def quantized(source, target, kind: str):
    """A folder in W8A8, its static ranges from the samples."""
    texts = {"calibration": SAMPLES, "samples": 4, "length": 64} if kind == "static" else {}
    mindcoder.quantize(source, target, method="w8a8", activations=kind, progress=False, **texts)
    return target


@pytest.fixture(scope="module", params=[pytest.param("dynamic", marks=pytest.mark.long), "static"])
def folder(request, served_folder, tmp_path_factory):
    return quantized(served_folder, tmp_path_factory.mktemp("w8a8") / request.param, request.param)


def test_serve_answers_as_the_model_does_alone(folder):
    """Several requests at once, bit by bit: also with a cache in integers."""
    prompts = ["def add(a, b):", "import os\n", "x = 1", "class A:"]
    model = mindcoder.load(folder, max_length=128, kv="int8")
    alone = [answer.text for answer in model.generate(prompts, max_new_tokens=NEW)]
    server = Running(folder, "--max_batch_size", "4", "--max_length", "128", "--kv", "int8")
    try:

        def ask(prompt: str) -> str:
            asked = {"prompt": prompt, "max_tokens": NEW, "temperature": 0}
            found = httpx.post(f"{server.url}/v1/completions", json=asked, timeout=60).json()
            return found["choices"][0]["text"]

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(ask, prompts)) == alone
    finally:
        server.process.kill()
        server.process.wait()


@pytest.mark.long
def test_eval_code(folder, tmp_path):
    (tmp_path / "problems.jsonl").write_text(
        "\n".join(json.dumps({**PROBLEM, "task_id": number}) for number in (11, 12, 13))
    )
    found = []
    for batch in (1, 3):
        out = tmp_path / str(batch)
        words = (
            "--task",
            "mbpp",
            "--data",
            tmp_path / "problems.jsonl",
            "--output_dir",
            out,
            "--max_batch_size",
            batch,
        )
        done = verb("eval-code", folder, *words, "--max_output_length", NEW, "--generate_only")
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for file in out.glob("answers-*") for line in file.read_text().splitlines()]
        found.append({item["task_id"]: item["answer"] for item in lines})
    assert len(found[0]) == 3 and found[0] == found[1]


@pytest.mark.long
def test_a_draft_changes_no_answer(folder, served_folder):
    """The model drafts for itself in floats."""
    words = ("chat", folder, "--input_text", "add two numbers", "--max_output_length", NEW)
    plain, drafted = verb(*words), verb(*words, "--draft", served_folder)
    assert plain.returncode == drafted.returncode == 0, drafted.stderr
    texts = [[line for line in done.stdout.splitlines() if not line.startswith("[")] for done in (plain, drafted)]
    assert texts[0] == texts[1] and "".join(texts[0])


@pytest.mark.cluster
@pytest.mark.parametrize("kind, mesh", [("dynamic", (1, 1, 2)), ("static", (1, 2, 1)), ("static", (1, 2, 2))])
def test_stages_and_slices_answer_what_one_process_answers(kind, mesh, dataset, tokenizer_folder, tmp_path):  # noqa: F811
    """Static integers of the slices' inputs are those of the whole; dynamic ones are each rank's own there."""
    run_single(dataset, tmp_path / "run", 4, model="llama", **{"runner_config.max_steps": 3})
    texts = {"calibration": SAMPLES, "samples": 4, "length": 32, "tokenizer": tokenizer_folder}
    more = texts if kind == "static" else {}
    mindcoder.quantize(
        tmp_path / "run", tmp_path / "q", method="w8a8", activations=kind, progress=False, template="none", **more
    )
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("sort a list\nreverse a string\n")

    def predict(output, *flags, **sets) -> str:
        settings = {**SIZES, "model.model_config.max_new_tokens": 20, **sets}
        command = [sys.executable, "-m", "mindcoder.cli.main", "predict"]
        command += ["--config", "configs/llama/tiny_finetune.yaml", "--load_checkpoint", tmp_path / "q"]
        command += ["--predict_data", prompts, "--raw", "--vocab_file", tokenizer_folder, "--output_file", output]
        command += ["--output_dir", output.with_suffix(""), *flags]
        command += [item for key, value in settings.items() for item in ("--set", f"{key}={value}")]
        command = list(map(str, command))
        if flags:
            done = launch(" ".join(command), mesh[0] * mesh[1] * mesh[2], output.with_suffix(""))
        else:
            done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
        assert done.returncode == 0, done.stderr
        return output.read_text()

    assert open_weights(tmp_path / "q").quantization == ("W8A8" if kind == "static" else "W8A8_DYNAMIC")
    alone = predict(tmp_path / "one.jsonl")
    assert len(alone.splitlines()) == 2
    assert predict(tmp_path / "many.jsonl", "--use_parallel", "True", **layout(*mesh)) == alone
