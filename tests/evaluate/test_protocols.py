"""Prompts, stop texts, limits and reading of answers against the published harnesses.

`published_protocols.json` holds what the published code itself gave; the rules are also written out here a second time.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest
from protocol_answers import ANSWERS, PROBLEMS, answer

from mindcoder.cli.eval_code_verb import add_eval_code_flags
from mindcoder.errors import UserError
from mindcoder.evaluate.problems import read_problems
from mindcoder.evaluate.protocol import check_protocol, code_of, named_protocol, program_of, prompt_of
from mindcoder.evaluate.protocols.sanitize import longest_code, sanitize
from mindcoder.evaluate.sandbox import Sandbox, SandboxOptions

PUBLISHED = json.loads((Path(__file__).parent / "published_protocols.json").read_text(encoding="utf-8"))
CHOSEN = {"split": "test", "problem_set": "0" * 64, "shots": 0, "samples": 1, "temperature": 0.0}
CHOSEN |= {"top_p": 1.0, "top_k": 0, "seed": 0}


def protocol(name, task, template="plain", asked=None, longest=4096, limit=None):
    return named_protocol(name, task, template, asked, longest, limit, **CHOSEN)


def suite(key):
    """``wizardlm mbpp``, or with a template between."""
    name, *template, task = key.split()
    return protocol(name, task, *template)


def sha(texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


@pytest.fixture(scope="module")
def problems(shared_data):
    return {
        "humaneval": read_problems(shared_data / "HumanEval.jsonl.gz", "humaneval"),
        "mbpp": read_problems(shared_data / "mbpp.jsonl", "mbpp", "all"),
    }


@pytest.fixture(scope="module")
def records(shared_data):
    with gzip.open(shared_data / "HumanEval.jsonl.gz", "rt") as stream:
        humaneval = [json.loads(line) for line in stream]
    return {"humaneval": humaneval, "mbpp": list(map(json.loads, open(shared_data / "mbpp.jsonl", encoding="utf-8")))}


ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request."


def written_out(name, task, record):
    """The documented rule, on the raw record."""
    if task == "humaneval":
        text = record["prompt"]
        if name == "bigcode":
            return text.strip()
        if name == "evalplus":
            return text.strip() + "\n"
        asked = "Create a Python script for this problem:\n" + text.replace("    ", "\t")
        return ALPACA + "\n\n\n### Instruction:\n" + asked + "\n\n### Response:"
    if name in ("bigcode", "evalplus"):
        return '"""\n' + record["text"] + "\n" + record["test_list"][0] + '\n"""\n'
    shown = record["test_list"]
    if record["task_id"] == 493:
        shown = ["calculate_polygons(startx, starty, endx, endy, radius)"]
    asked = ("\n" + record["text"] + "\nTest examples:\n" + "\n".join(shown)).replace("    ", "\t")
    return ALPACA + "\n\n### Instruction:\nCreate a Python script for this problem:\n" + asked + "\n\n### Response:"


@pytest.mark.parametrize("key", [key for key in PUBLISHED["prompts"] if len(key.split()) == 2])
def test_every_prompt_is_what_the_rule_says(key, problems, records):
    name, task = key.split()
    ours = [prompt_of(problem, protocol(name, task)) for problem in problems[task]]
    assert ours == [written_out(name, task, record) for record in records[task]]


@pytest.mark.parametrize("key", PUBLISHED["prompts"])
def test_every_prompt_is_what_the_published_code_makes(key, problems):
    held = suite(key)
    assert sha(prompt_of(problem, held) for problem in problems[held.task]) == PUBLISHED["prompts"][key]


def test_the_prompts_that_differ_are_those_that_were_reported(problems):
    """142 of HumanEval's prompts begin with white space; WizardLM asks problems 173, 451 and 493 otherwise."""
    humaneval = problems["humaneval"]
    assert sum(prompt_of(item, protocol("bigcode", "humaneval")) != item.text.rstrip() for item in humaneval) == 142
    earlier = protocol("plain", "mbpp", "wizardcoder")
    differing = [
        item.task_id
        for item in problems["mbpp"]
        if int(item.task_id) in range(11, 511)
        and prompt_of(item, protocol("wizardlm", "mbpp")) != prompt_of(item, earlier)
    ]
    assert differing == ["173", "451", "493"]


@pytest.mark.parametrize("key", PUBLISHED["stops"])
def test_stops_are_the_published_ones(key):
    held = suite(key if key.startswith("evalplus") else f"bigcode {key}")
    assert list(held.stops) == PUBLISHED["stops"][key]
    assert protocol("wizardlm", held.task).stops == ()


@pytest.mark.parametrize("key", PUBLISHED["codes"])
def test_answers_are_read_as_the_published_code_reads_them(key, problems):
    held = suite(key)
    problem = next(item for item in problems[held.task] if item.task_id == PROBLEMS[held.task][0])
    found = {form: code_of(answer(form, held.task), problem, held) for form in ANSWERS}
    assert {form: hashlib.sha256(code.encode()).hexdigest()[:8] for form, code in found.items()} == {
        form: said.split()[0] for form, said in PUBLISHED["codes"][key].items()
    }


@pytest.mark.parametrize("key", ["wizardlm humaneval", "wizardlm mbpp"])
def test_verdicts_are_those_of_the_published_code(key, problems):
    held, isolated = suite(key), Sandbox(SandboxOptions(seconds=20, isolation="limits"))
    problem = next(item for item in problems[held.task] if item.task_id == PROBLEMS[held.task][0])
    codes = [code_of(answer(form, held.task), problem, held) for form in ANSWERS]
    passed = [outcome.passed for outcome in isolated.run_all([program_of(code, problem, held) for code in codes])]
    published = [PUBLISHED["codes"][key][form].endswith("pass") for form in ANSWERS]
    assert dict(zip(ANSWERS, passed)) == dict(zip(ANSWERS, published))


def test_sanitize_is_evalplus_sanitize_on_all_solutions(records):
    texts = [(item["prompt"] + item["canonical_solution"], item["entry_point"]) for item in records["humaneval"]]
    for item in records["mbpp"]:
        functions = sorted(set(re.findall(r"^def[ \t]+(\w+)", item["code"], re.MULTILINE)))
        named = [function for function in functions if function in item["test_list"][0]]
        texts.append((item["code"], named[0] if named else None))
    texts += [(f"Intro words here.\n{code}\nsome more text, isn't it\n", entry) for code, entry in texts[::7]]
    assert sha(sanitize(code, entry) for code, entry in texts) == PUBLISHED["sanitize"]


def test_sanitize_takes_any_text():
    for text in ("", "\n", "\0", "x" * 10_000, "(" * 500, "\n" * 3000, "no code\n" * 60, "\r\n\r\n", "\x1b[1mx = 1"):
        assert isinstance(sanitize(text, "f"), str)
    assert longest_code("one line only") == "one line only"


def test_mbpp_is_scored_without_setup_code_where_the_harness_has_none(problems):
    """Problem 367's tests use names of ``test_setup_code``; bigcode's harness never runs it."""
    problem = next(item for item in problems["mbpp"] if item.task_id == "367")
    assert "root = Node(1)" in program_of("x = 1", problem, protocol("plain", "mbpp"))
    for name in ("bigcode", "wizardlm"):
        assert "root = Node(1)" not in program_of("x = 1", problem, protocol(name, "mbpp"))
        assert program_of("x = 1", problem, protocol(name, "mbpp")).endswith(problem.examples[-1])


@pytest.mark.parametrize(
    ("name", "prompt_tokens", "longest", "room"),
    [
        ("bigcode", 100, 4096, 412),
        ("bigcode", 512, 4096, 0),
        ("wizardlm", 100, 4096, 1948),
        ("wizardlm", 100, 1024, 924),
        ("evalplus", 100, 4096, 768),
        ("evalplus", 100, 512, 412),
        ("plain", 100, 4096, 512),
    ],
)
def test_token_limits(name, prompt_tokens, longest, room):
    held = protocol(name, "humaneval", longest=longest)
    assert held.room(prompt_tokens, longest) == room


def test_a_report_names_protocol_source_and_what_differs():
    held = protocol("wizardlm", "mbpp")
    assert held.as_dict()["source"] == "nlpxucan/WizardLM, WizardCoder/src at cd4b4cc"
    assert held.describe()[0] == "protocol: wizardlm (nlpxucan/WizardLM, WizardCoder/src at cd4b4cc)"
    assert "at most 2048 tokens with the prompt" in held.describe()[3] and not held.deviations()
    short = protocol("wizardlm", "mbpp", longest=512, limit=12)
    assert short.as_dict()["deviations"] == [
        "512 tokens in all, published: 2048",
        "12 new tokens, published: no limit",
    ]
    assert short.describe()[-1].startswith("not as published: 512 tokens in all")


@pytest.mark.parametrize(
    ("name", "task", "asked", "shots", "said"),
    [
        ("bigcode", "mbpp", "instruct", 0, "has no --prompt instruct"),
        ("wizardlm", "mbpp", "complete", 0, "has no --prompt complete"),
        ("evalplus", "humaneval-infilling", None, 0, "no rules for humaneval-infilling"),
        ("wizardlm", "mbpp", None, 3, "shows no solved examples"),
    ],
)
def test_choices_that_a_protocol_does_not_leave_are_refused(name, task, asked, shots, said):
    with pytest.raises(UserError, match=said):
        check_protocol(name, task, asked, shots)


def test_the_flag():
    from mindcoder.cli.parser import Parser

    parser = Parser(prog="x")
    add_eval_code_flags(parser)
    given = ["model", "--task", "mbpp", "--data", "x"]
    assert parser.parse_args(given).protocol == "plain"
    assert [parser.parse_args([*given, "--protocol", name]).protocol for name in ("bigcode", "evalplus")] == [
        "bigcode",
        "evalplus",
    ]


def test_published_infilling_files_have_the_fields_that_are_read(tmp_path):
    """Layout of openai/human-eval-infilling at 88062ff, data/HumanEval-RandomSpanInfilling.jsonl.gz: the gap may lie
    within a line, and the program is prompt + completion + suffix."""
    record = {
        "task_id": "RandomSpanInfilling/HumanEval/0/1",
        "entry_point": "double",
        "prompt": "def double(x):\n    if",
        "suffix": " 0:\n        return 0\n    return 2 * x\n",
        "canonical_solution": " x ==",
        "test": "\n\nMETADATA = {\n    'author': 'us'\n}\n\n\ndef check(candidate):\n    assert candidate(2) == 4\n",
    }
    with gzip.open(tmp_path / "HumanEval-RandomSpanInfilling.jsonl.gz", "wt") as stream:
        stream.write(json.dumps(record) + "\n\n")
    (gap,) = read_problems(tmp_path / "HumanEval-RandomSpanInfilling.jsonl.gz", "humaneval-infilling")
    held = protocol("plain", "humaneval-infilling")
    whole = program_of(code_of(" x ==", gap, held), gap, held)
    assert whole == record["prompt"] + " x ==" + record["suffix"] + "\n" + record["test"] + "\ncheck(double)"
    exec(whole, {})
