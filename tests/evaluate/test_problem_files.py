"""Damaged problem files and answers: one line that names file, line and field."""

from __future__ import annotations

import gzip
import json

import pytest

from mindcoder.errors import UserError
from mindcoder.evaluate.answers import read_answers
from mindcoder.evaluate.problems import read_problems

MBPP = {"task_id": 11, "text": "Add.", "code": "x = 1", "test_list": ["assert x"]}
HUMAN = {"task_id": "H/0", "prompt": "def f():\n", "entry_point": "f", "canonical_solution": "", "test": "x = 1"}


def line(record: dict, **changes) -> bytes:
    return json.dumps({name: value for name, value in (record | changes).items() if value is not None}).encode()


BAD_MBPP = {
    "no tests": (line(MBPP, test_list=[]), "test_list is not a list of strings"),
    "tests as text": (line(MBPP, test_list="assert x"), "test_list is not a list of strings"),
    "numbers as tests": (line(MBPP, test_list=[1]), "test_list is not a list of strings"),
    "text is a list": (line(MBPP, text=["Add."]), "text is a list, expected a text"),
    "code is null": (
        b'{"task_id": 11, "text": "a", "code": null, "test_list": ["x"]}',
        "code is null, expected a text",
    ),
    "no code": (line(MBPP, code=None), "no 'code' in a record with task_id, text, test_list"),
    "number is a word": (line(MBPP, task_id="eleven"), "is not a number"),
    "a list": (b"[1]", "a record is a number"),
    "a number": (b"3", "a record is a number"),
    "half a record": (line(MBPP)[:-3], "bad JSON"),
    "half a character": (line(MBPP, text="\ud800"), "surrogates not allowed"),
    "deep": (b"[" * 100_000, "nested"),
    "not UTF-8": (b'{"task_id": "\xff"}', "is not UTF-8 text"),
    "twice": (line(MBPP) + b"\n" + line(MBPP), "holds problem 11 twice"),
    "of another split": (line(MBPP, task_id=3), "holds no problem of mbpp, split test"),
    "empty": (b"", "holds no problem of mbpp"),
}


@pytest.mark.parametrize("case", BAD_MBPP)
def test_damaged_files_are_refused(case, tmp_path):
    data, said = BAD_MBPP[case]
    (tmp_path / "x.jsonl").write_bytes(data)
    with pytest.raises(UserError) as refused:
        read_problems(tmp_path / "x.jsonl", "mbpp")
    assert said in str(refused.value) and "x.jsonl" in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (line(HUMAN, entry_point="f); import os; (f"), "is not an identifier"),
        (line(HUMAN, entry_point=None), "no 'entry_point'"),
        (line(HUMAN, prompt=3), "prompt is a number"),
    ],
)
def test_damaged_files_of_humaneval_are_refused(data, said, tmp_path):
    (tmp_path / "x.jsonl").write_bytes(line(HUMAN, task_id="H/1") + b"\n" + data)
    with pytest.raises(UserError, match=rf"x\.jsonl:2.*{said}|{said}.*x\.jsonl:2"):
        read_problems(tmp_path / "x.jsonl", "humaneval")


def test_damaged_and_swollen_gzip_files_are_refused(tmp_path):
    file = tmp_path / "x.jsonl.gz"
    whole = gzip.compress(line(HUMAN))
    for data in (whole[:-9], b"no gzip", whole[:12] + b"xxxx" + whole[16:]):
        file.write_bytes(data)
        with pytest.raises(UserError, match="cannot be unpacked"):
            read_problems(file, "humaneval")
    with gzip.open(file, "wb", compresslevel=1) as stream:
        for _ in range(65):
            stream.write(bytes(2**20))
    with pytest.raises(UserError, match="unpacks to more than 64 MiB"):
        read_problems(file, "humaneval")


def test_a_line_separator_within_a_text_ends_no_line(tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps(MBPP | {"text": "a\u2028b"}, ensure_ascii=False), encoding="utf-8")
    assert read_problems(tmp_path / "x.jsonl", "mbpp")[0].text == "a\u2028b"


def test_answers_that_are_none_do_not_count(tmp_path):
    kept = {"task_id": "11", "sample": 0, "answer": "a\u2028b"}
    others = [
        b"[]",
        b"3",
        b"null",
        b"\xff",
        b'{"task_id": "11"',
        b'{"task_id": [], "sample": 0, "answer": ""}',
        b"[" * 9999,
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([*others, json.dumps(kept, ensure_ascii=False).encode(), b""]))
    assert read_answers(tmp_path / "a.jsonl") == {("11", 0): "a\u2028b"}
