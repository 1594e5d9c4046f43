"""Every layout that is read: the exact turns, which of them are learned, and the tokens and labels of preprocess.

What is expected is written by hand from the documents that the readers' modules name.
"""

from __future__ import annotations

import json
import re

import pytest
from conftest import REPOSITORY
from layout_examples import LIGHT_CALL, OTHERS, PUBLIC, PUBLIC_PAIRS, REFUSED, TOOLS

from mindcoder.data.encode import IGNORED_LABEL
from mindcoder.data.preprocess import RecordEncoder
from mindcoder.data.readers import LAYOUTS, BadRecord, Conversation, Document, Pair, Reading, Record, read_records
from mindcoder.data.readers.layouts import read_item


def turns(record) -> list[tuple[str, str]]:
    """(role, text) of a record; roles of what is learned are in capitals, a question's further input follows " + "."""
    if isinstance(record, Document):
        return [("TEXT", record.content)]
    if isinstance(record, Record):
        return [
            ("user", record.instruction + (f" + {record.input}" if record.input else "")),
            ("ANSWER", record.output),
        ]
    assert isinstance(record, Conversation), record
    return [
        (
            "ANSWER" if item.role == "assistant" and item.learned else item.role,
            item.content + (f" + {item.context}" if item.context else ""),
        )
        for item in record.messages
    ]


def read(item, tmp_path, reading=Reading()):
    return read_item(tmp_path / "x.json", 0, None, item, reading)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_files_give_these_turns(name, shared_data):
    found = list(read_records(shared_data / "originals" / "records" / name))
    assert [turns(record) for record in found] == PUBLIC[name]
    assert all(record.unread == () for record in found)


@pytest.mark.parametrize("name", PUBLIC_PAIRS)
def test_public_pairs_give_prompt_and_answers(name, shared_data):
    (found,) = read_records(shared_data / "originals" / "records" / name)
    prompt, chosen, rejected = PUBLIC_PAIRS[name]
    assert isinstance(found, Pair) and [(item.role, item.content) for item in found.prompt] == prompt
    assert (found.chosen, found.rejected, found.unread) == (chosen, rejected, ())


def test_every_public_file_is_looked_at(shared_data):
    names = {file.name for file in (shared_data / "originals" / "records").iterdir()}
    assert names == {*PUBLIC, *PUBLIC_PAIRS, "7_kto.json"}


@pytest.mark.parametrize("name", OTHERS)
def test_other_layouts_give_these_turns(name, tmp_path):
    item, expected = OTHERS[name]
    assert turns(read(item, tmp_path)) == expected


def test_every_layout_has_an_example_here(shared_data, tmp_path):
    items = [item for item, _ in OTHERS.values()]
    for file in (shared_data / "originals" / "records").iterdir():
        items += json.loads(file.read_text())
    met = {next(layout.name for layout in LAYOUTS if all(item.get(need) is not None for need in layout.needs))
           for item in items}  # fmt: skip
    assert met == {layout.name for layout in LAYOUTS}


@pytest.mark.parametrize("template", ["wizardcoder", "llama2-chat", "plain"])
def test_what_is_learned_are_the_answers_and_nothing_else(template, small_tokenizer, tmp_path):
    encoder, end = RecordEncoder(small_tokenizer, 4096, template), "<|endoftext|>"
    for item, expected in OTHERS.values():
        (example,) = encoder.encode(read(item, tmp_path))
        text = small_tokenizer.decode(example.input_ids.tolist())
        learned = small_tokenizer.decode(example.input_ids[example.labels != IGNORED_LABEL].tolist())
        answers = [content for role, content in expected if role in ("ANSWER", "TEXT")]
        lead = " " if template == "llama2-chat" and expected[0][0] != "TEXT" else ""
        assert learned.endswith("".join(f"{lead}{answer}{end}" for answer in answers).lstrip(" "))
        place = 0
        for _, content in expected:  # everything that was said is in the text, in this order
            for part in content.split(" + "):
                place = text.index(part, place)
        assert learned.count(end) == len(answers)


def test_system_and_tools_stand_where_the_template_has_them(small_tokenizer, tmp_path):
    item = {"instruction": "q", "input": "i", "output": "a", "system": "S", "tools": "T"}
    tools = TOOLS.format("T")
    expected = {
        "wizardcoder": f"S\n\n{tools}\n\n### Instruction:\nq\n\n### Input:\ni\n\n### Response:a<|endoftext|>",
        "starcoder2-instruct": f"S\n\n{tools}\n\n### Instruction\nq\n\ni\n\n### Response\na<|endoftext|>",
        "llama2-chat": f"[INST] <<SYS>>\nS\n\n{tools}\n<</SYS>>\n\nq\n\ni [/INST] a<|endoftext|>",
        "plain": f"S\n\n{tools}\n\nq\nia<|endoftext|>",
    }
    for template, text in expected.items():
        (example,) = RecordEncoder(small_tokenizer, 4096, template).encode(read(item, tmp_path))
        assert small_tokenizer.decode(example.input_ids.tolist()) == text


def test_results_of_tools_are_read_and_calls_are_learned(small_tokenizer, tmp_path):
    item, _ = OTHERS["TRL: arguments as an object"]
    (example,) = RecordEncoder(small_tokenizer, 4096, "wizardcoder").encode(read(item, tmp_path))
    learned = small_tokenizer.decode(example.input_ids[example.labels != IGNORED_LABEL].tolist())
    assert learned == f"{LIGHT_CALL}<|endoftext|>Done!<|endoftext|>"
    whole = small_tokenizer.decode(example.input_ids.tolist())
    assert "### Instruction:\n<tool_response>\non\n</tool_response>\n\n### Response:Done!" in whole


def test_of_a_pair_only_the_last_answers_have_labels(small_tokenizer, shared_data):
    (found,) = read_records(shared_data / "originals" / "records" / "6b_dpo_sharegpt.json")
    chosen, rejected = RecordEncoder(small_tokenizer, 4096, "wizardcoder", pairs=True).encode(found)
    for example, answer in ((chosen, found.chosen), (rejected, found.rejected)):
        learned = small_tokenizer.decode(example.input_ids[example.labels != IGNORED_LABEL].tolist())
        assert learned == f"{answer}<|endoftext|>"
        assert "### Response:model response<|endoftext|>" in small_tokenizer.decode(example.input_ids.tolist())


def test_records_that_are_written_are_read_again(tmp_path):
    for item, _ in OTHERS.values():
        record = read(item, tmp_path)
        assert turns(read(record.fields(), tmp_path)) == turns(record)


@pytest.mark.parametrize(("item", "reason"), REFUSED)
def test_what_cannot_be_learned_is_refused_by_name(item, reason, tmp_path):
    found = read(item, tmp_path)
    assert isinstance(found, BadRecord) and found.broken and reason in found.reason


@pytest.mark.parametrize("page", ["data.md", "data_CN.md"])
def test_the_documents_examples_are_of_the_layouts_they_stand_for(page, tmp_path):
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| `(\{.*\})` \|", text, re.MULTILINE)
    assert [name for name, _ in rows] == [layout.name for layout in LAYOUTS]
    for name, example in rows:
        item = json.loads(example.replace("\\|", "|"))
        record = read(item, tmp_path, Reading(layout=name))
        assert not isinstance(record, BadRecord) and record == read(item, tmp_path) and record.unread == ()


PAIRS = [
    ({"system": "S", "question": "q", "chosen": "a", "rejected": "b"}, [("system", "S"), ("user", "q")]),
    ({"system": "", "input": "q", "chosen": "a", "rejected": "b", "margin": 2}, [("user", "q")]),
    ({"instruction": "q", "input": "i", "history": [["x", "y"]], "chosen": "a", "rejected": "b"},
     [("user", "x"), ("assistant", "y"), ("user", "q")]),
    ({"prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": "a"}],
      "rejected": [{"role": "assistant", "content": "b"}]}, [("user", "q")]),
    ({"prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "q"}], "chosen": "a", "rejected": "b"},
     [("system", "S"), ("user", "q")]),
    ({"conversations": [{"from": "human", "value": "q"}], "tools": "T", "chosen": {"from": "gpt", "value": "a"},
      "rejected": {"from": "gpt", "value": "b"}}, [("system", TOOLS.format("T")), ("user", "q")]),
    ({"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": "c"},
                        {"from": "observation", "value": "r"}],
      "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}},
     [("user", "q"), ("assistant", "<tool_call>\nc\n</tool_call>"), ("tool", "r")]),
]  # fmt: skip


@pytest.mark.parametrize(("item", "prompt"), PAIRS)
def test_pairs_have_all_that_stands_before_their_answers(item, prompt, tmp_path, small_tokenizer):
    found = read(item, tmp_path)
    assert isinstance(found, Pair) and found.unread == () and (found.chosen, found.rejected) == ("a", "b")
    assert [(turn.role, turn.content) for turn in found.prompt] == prompt
    again = read(found.fields(), tmp_path)
    assert (again.prompt, again.chosen, again.rejected) == (found.prompt, "a", "b")
    for example, answer in zip(RecordEncoder(small_tokenizer, 4096, "plain", pairs=True).encode(found), "ab"):
        text = small_tokenizer.decode(example.input_ids.tolist())
        learned = small_tokenizer.decode(example.input_ids[example.labels != IGNORED_LABEL].tolist())
        assert learned.endswith(f"{answer}<|endoftext|>") and learned.count("<|endoftext|>") == 1
        assert all(content in text for _, content in prompt)
