"""eval-code from the command line: answers, going on after an interruption, shards, reports, refusals."""

from __future__ import annotations

import json
from subprocess import CompletedProcess

import pytest
from command import mindcoder

from mindcoder.errors import UserError
from mindcoder.evaluate.sandbox import Sandbox, SandboxOptions

PROBLEMS = [
    {
        "task_id": 11 + index,
        "text": f"Write a function f{index} that adds {index}.",
        "code": f"def f{index}(x):\n    return x + {index}",
        "test_setup_code": "",
        "test_list": [f"assert f{index}(1) == {1 + index}"],
    }
    for index in range(5)
]


@pytest.fixture
def problems(tmp_path):
    file = tmp_path / "problems.jsonl"
    file.write_text("\n".join(map(json.dumps, PROBLEMS)))
    return file


@pytest.fixture
def sandbox():
    try:
        Sandbox(SandboxOptions()).check()
    except UserError as error:
        if "not permitted" not in str(error):
            raise
        pytest.skip(str(error))


def eval_code(model, problems, output, *flags) -> CompletedProcess[str]:
    more = ("--data", problems, "--output_dir", output, "--max_output_length", "12", *flags)
    return mindcoder("eval-code", model, "--task", "mbpp", *more)


def answers(folder, pattern="answers-*") -> dict:
    lines = [line for file in folder.glob(pattern) for line in file.read_text().splitlines()]
    return {(item["task_id"], item["sample"]): item["answer"] for item in map(json.loads, lines)}


def test_a_report_names_its_protocol_and_goes_on_from_what_is_there(served_folder, problems, sandbox, tmp_path):
    out = tmp_path / "out"
    first = eval_code(served_folder, problems, out, "--template", "wizardcoder", "--generate_only")
    assert first.returncode == 0, first.stderr
    generated = answers(out)
    assert len(generated) == 5
    kept = {"task_id": "11", "sample": 0, "answer": "```python\ndef f0(x): return x\n```"}
    solved = {"task_id": "13", "sample": 0, "answer": "It is\ndef f2(x): return x + 2"}
    file = out / "answers-000-of-001.jsonl"
    file.write_text(f"{json.dumps(kept)}\n{json.dumps(solved)}\n" + '{"task_id": "12", "sam')  # cut off while writing
    done = eval_code(served_folder, problems, out, "--template", "wizardcoder", "--allow-code-execution")
    assert done.returncode == 0, done.stderr
    assert answers(out) == {**generated, ("11", 0): kept["answer"], ("13", 0): solved["answer"]}
    for line in (
        "protocol: plain (MindCoder's own)",
        "prompt: instruction, template wizardcoder, 0-shot",
        "decoding: greedy, 1 per problem, at most 12 new tokens",
        "execution: namespaces, 10 s, 4 GiB per program",
        "pass@1: 0.400 (95 % interval 0.000 to 0.800, 5 problems, 5 answers)",
    ):
        assert line in done.stdout, done.stdout
    report = json.loads((out / "report.json").read_text())
    assert report["protocol"]["problem_set"] and report["scores"]["pass@1"]["value"] == pytest.approx(0.4)
    assert json.loads((out / "generations.json").read_text())[2] == ["def f2(x): return x + 2"]
    plus = [json.loads(line) for line in (out / "evalplus.jsonl").read_text().splitlines()]
    assert plus[2] == {"task_id": "Mbpp/13", "solution": "def f2(x): return x + 2"}
    verdicts = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [item["passed"] for item in verdicts] == [True, False, True, False, False]
    assert report["protocol"]["name"] == "plain" and report["execution"]["not_run"] == 0
    other = eval_code(served_folder, problems, out, "--protocol", "wizardlm", "--generate_only")
    assert other.returncode == 2 and "answers of another model or protocol" in other.stderr


def test_shards_draw_what_one_process_draws(served_folder, problems, sandbox, tmp_path):
    flags = ("--samples", "3", "--temperature", "0.8", "--protocol", "bigcode", "--k", "1,3")
    whole = eval_code(served_folder, problems, tmp_path / "one", *flags, "--generate_only")
    assert whole.returncode == 0, whole.stderr
    for shard in ("1/2", "0/2"):
        done = eval_code(served_folder, problems, tmp_path / "two", *flags, "--shard", shard, "--allow-code-execution")
        assert done.returncode == 0, done.stderr
    assert answers(tmp_path / "two") == answers(tmp_path / "one")
    assert len(set(answers(tmp_path / "one").values())) > 10
    assert "pass@1: 0.000" in done.stdout and "pass@3: 0.000" in done.stdout
    assert "protocol: bigcode (bigcode-project/bigcode-evaluation-harness at 8fc5bae6)" in done.stdout
    assert "not as published: 12 new tokens, published: no limit" in done.stdout, done.stdout


def test_nothing_runs_without_leave(served_folder, problems, tmp_path):
    def line(*flags) -> str:
        done = eval_code(served_folder, problems, tmp_path / "x", *flags)
        assert done.returncode == 2 and not (tmp_path / "x").exists()
        return done.stderr.strip().splitlines()[-1]

    assert "add --allow-code-execution, or --generate_only" in line()
    assert "expected I/N" in line("--shard", "2/2", "--generate_only")
    assert "expected numbers such as 1,10" in line("--k", "one", "--allow-code-execution")


def test_canonical_solutions_need_no_model(problems, sandbox, tmp_path):
    done = eval_code("canonical", problems, tmp_path / "x", "--allow-code-execution")
    assert done.returncode == 0 and "canonical solutions of mbpp: 1.000 (5 problems)" in done.stdout, done.stderr
