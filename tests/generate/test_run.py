"""Prompts from files, and text that grows without half characters."""

from __future__ import annotations

import json

import pytest

from mindcoder.data.prompt import TEMPLATES, build_prompt
from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.generate.model import generation_network
from mindcoder.generate.run import read_prompts
from mindcoder.generate.text import TextStream


def test_prompts_of_every_file_form(tmp_path):
    items = [{"instruction": "sort", "input": "[2, 1]"}, {"prompt": "reverse", "id": 7}]
    (tmp_path / "a.json").write_text(json.dumps(items))
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, items)))
    (tmp_path / "a.txt").write_text("first line\n\nsecond line\n")
    expected = [build_prompt("sort", "[2, 1]"), build_prompt("reverse")]
    for name in ("a.json", "a.jsonl"):
        prompts, from_file = read_prompts(str(tmp_path / name), "wizardcoder")
        assert from_file and [prompt.text for prompt in prompts] == expected
        assert prompts[1].source == items[1]
    assert [prompt.text for prompt in read_prompts(str(tmp_path / "a.txt"), "plain")[0]] == [
        "first line",
        "second line",
    ]
    prompts, from_file = read_prompts("write a loop", "plain")
    assert not from_file and prompts[0].text == "write a loop"
    assert not read_prompts("x" * 5000, "plain")[1]


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("a.jsonl", '{"instruction": "a"}\n{bad', r"a.jsonl:2: bad JSON"),
        ("a.jsonl", '{"text": "a"}', "a.jsonl:1: expected an object with instruction, prompt"),
        ("a.json", "[1,\n2,", "a.json:2: bad JSON"),
        ("a.txt", "\n", "holds no prompt"),
    ],
)
def test_bad_prompt_files_are_named(name, text, expected, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=expected):
        read_prompts(str(tmp_path / name), "wizardcoder")


def test_a_missing_prompt_file_is_no_prompt(tmp_path):
    with pytest.raises(UserError, match="no such file of prompts"):
        read_prompts(str(tmp_path / "prompts.jsonl"), "wizardcoder")


def test_streamed_text_equals_the_whole_and_has_no_half_characters(small_tokenizer):
    text = "def f():\n\treturn '中文🙂👩‍💻é'\r\n"
    stream = TextStream(small_tokenizer)
    ids = small_tokenizer.encode(text)
    pieces = [stream.push(token) for token in ids]
    assert "".join([*pieces, stream.finish()]) == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert len(ids) > len("".join(pieces).split("中")[0])  # the small vocabulary cuts Chinese characters into bytes


def test_gaps_become_fill_in_the_middle_prompts(tmp_path, small_tokenizer):
    before, after = "def add(a, b):\n    ", "\n    return result"
    line = json.dumps({"prefix": before, "suffix": after, "id": 3})
    (tmp_path / "gaps.jsonl").write_text(f"{line}\n")
    from_file, _ = read_prompts(str(tmp_path / "gaps.jsonl"), "plain")
    from_text, _ = read_prompts(f"{before}<FILL_ME>{after}", "wizardcoder")
    expected = small_tokenizer.encode(f"<fim_prefix>{before}<fim_suffix>{after}<fim_middle>")
    assert from_file[0].encode(small_tokenizer) == from_text[0].encode(small_tokenizer) == expected
    assert from_file[0].source["id"] == 3


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_templates_take_any_instruction_as_it_is(name):
    instruction, extra = "print {input} and {instruction} {}", "x = {'a': 1}"
    assert instruction in build_prompt(instruction, template=name)
    filled = build_prompt(instruction, extra, name)
    assert instruction in filled and filled.count(extra) == 1


def test_cpu_answers_in_float32_whatever_it_was_trained_in():
    network = TransformerConfig("llama", 50, 32, 1, 2, 1, 64, 128, compute_dtype="bfloat16")
    assert generation_network(network).compute_dtype == "float32"
