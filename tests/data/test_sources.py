"""Conversations, plain code, gaps, weights of sources, duplicates, problem sets; what `mindcoder data` shows."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from mindcoder.cli.main import main
from mindcoder.data.conversation import Message, encode_conversation
from mindcoder.data.encode import IGNORED_LABEL, encode_document, encode_messages
from mindcoder.data.infill import InfillOptions, InfillRearranger
from mindcoder.data.loader import BatchLoader, Position
from mindcoder.data.overlap import Finding, contaminated, near_duplicates
from mindcoder.data.prepared import TextOptions, prepare_texts
from mindcoder.data.preprocess import PreprocessOptions, preprocess
from mindcoder.data.readers import BadRecord, Conversation, Document, Record, read_records
from mindcoder.data.show import documents, read_rows, spans
from mindcoder.errors import UserError

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 1 + 1?"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "And 2 + 2?"},
    {"role": "assistant", "content": "4, of course"},
]


@pytest.fixture
def infill_tokenizer(small_tokenizer):
    assert small_tokenizer.infill is not None
    return small_tokenizer


def test_both_ways_of_writing_a_conversation_are_read(tmp_path):
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    sharegpt = [{"from": names[item["role"]], "value": item["content"]} for item in TALK]
    file = tmp_path / "talks.jsonl"
    file.write_text(json.dumps({"messages": TALK}) + "\n" + json.dumps({"conversations": sharegpt, "id": "x"}) + "\n")
    first, second = read_records(file)
    assert isinstance(first, Conversation) and first.messages == second.messages and len(first.messages) == 5
    wrong = [
        ({"messages": TALK[:2]}, "there is no answer at the end"),
        ({"messages": TALK[1:2] * 2}, "message 1 is the user's where the assistant's is expected"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "turn 0: expected a role"),
        ({"conversations": "hello"}, "expected a list, found str"),
    ]
    file.write_text("\n".join(json.dumps(item) for item, _ in wrong))
    for found, (_, reason) in zip(read_records(file), wrong):
        assert isinstance(found, BadRecord) and reason in found.reason


@pytest.mark.parametrize("template", ["wizardcoder", "starcoder2-instruct", "plain"])
def test_only_answers_are_learned_and_questions_are_encoded_as_they_are_asked(template, small_tokenizer):
    messages = tuple(Message(item["role"], item["content"]) for item in TALK)
    example = encode_messages(Conversation("f", 0, None, messages), small_tokenizer, 1000, template)
    learned = example.input_ids[example.labels != IGNORED_LABEL].tolist()
    eos = small_tokenizer.eos_id
    assert small_tokenizer.decode(learned).replace("<|endoftext|>", "|") == "2|4, of course|"
    assert learned.count(eos) == 2
    asked = encode_conversation(messages[:-1], template, small_tokenizer)
    assert example.input_ids[: len(asked)].tolist() == asked
    assert (example.labels[: len(asked)] != IGNORED_LABEL).sum() == learned.index(eos) + 1
    assert encode_messages(Conversation("f", 0, None, messages), small_tokenizer, 5, template) is None


def test_code_files_and_texts_are_learned_whole_and_cut_when_too_long(small_tokenizer, tmp_path):
    code = "def f(x):\n    return x + 1\n" * 40
    (tmp_path / "a.py").write_text(code)
    (tmp_path / "b.jsonl").write_text(json.dumps({"content": code, "size": 3}) + "\n" + json.dumps({"text": " "}))
    (document,) = read_records(tmp_path / "a.py")
    same, empty = read_records(tmp_path / "b.jsonl")
    assert isinstance(document, Document) and same.content == document.content == code
    assert isinstance(empty, BadRecord) and not empty.broken
    examples = encode_document(document, small_tokenizer, 64)
    assert len(examples) > 3 and max(len(item.input_ids) for item in examples) == 64
    joined = np.concatenate([item.input_ids for item in examples]).tolist()
    assert joined == [*small_tokenizer.encode(code), small_tokenizer.eos_id]
    assert all((item.labels == item.input_ids).all() for item in examples)
    with pytest.raises(UserError, match="seq_length 3 leaves no room"):
        encode_document(document, small_tokenizer, 3, InfillOptions(0.5))


def test_gaps_keep_every_token_in_both_orders(infill_tokenizer):
    code = "def add(a, b):\n    total = a + b\n    return total\n"
    ids = [*infill_tokenizer.encode(code), infill_tokenizer.eos_id]
    mark = {name: infill_tokenizer.backend.token_to_id(f"<fim_{name}>") for name in ("prefix", "suffix", "middle")}
    seen = {"psm": 0, "spm": 0, "plain": 0}
    rearranger = InfillRearranger(infill_tokenizer, InfillOptions(0.6, 0.3, seed=3))
    for number in range(400):
        found = rearranger.maybe(ids, (number,))
        assert found == rearranger.maybe(ids, (number,))
        if found == ids:
            seen["plain"] += 1
            continue
        assert found[0] == mark["prefix"] and found[-1] == infill_tokenizer.eos_id
        suffix, middle = found.index(mark["suffix"]), found.index(mark["middle"])
        if suffix == 1 and found[middle + 1 :] != found[-1:]:
            order = "spm"
            whole = found[middle + 1 : -1] + found[2:middle]
        else:
            order = "psm"
            whole = found[1:suffix] + found[middle + 1 : -1] + found[suffix + 1 : middle]
        if whole == ids[:-1]:
            seen[order] += 1
        else:  # an empty prefix looks like the other order
            assert suffix == 1
    assert 130 < seen["plain"] < 190 and seen["psm"] > 130 and seen["spm"] > 45
    prompt = infill_tokenizer.encode_infill("def f():\n", "\n    return x")  # as the model is asked
    assert prompt[0] == mark["prefix"] and prompt[-1] == mark["middle"] and mark["suffix"] in prompt


def test_preprocess_mixes_kinds_and_does_not_depend_on_workers(infill_tokenizer, tmp_path):
    lines = [{"messages": TALK}, {"text": "x = 1\n" * 30}, {"instruction": "Say", "output": "hi"}] * 30
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, lines)))
    made = []
    for workers in (1, 2):
        options = PreprocessOptions(
            str(tmp_path / "all.jsonl"), tmp_path / f"{workers}.mindrecord", 256, True, workers=workers,
            show_progress=False, infill=InfillOptions(0.5),
        )  # fmt: skip
        _, statistics = preprocess(options, infill_tokenizer)
        assert statistics.records == 90 and statistics.rejected == 0
        made.append([row["input_ids"].tolist() for row in read_rows(str(options.output_file))])
    assert made[0] == made[1]
    middle = infill_tokenizer.backend.token_to_id("<fim_middle>")
    assert 3 < sum(row.count(middle) for row in made[0]) < 27


def dataset(tmp_path, tokenizer, name: str, count: int, word: str):
    file = tmp_path / f"{name}.jsonl"
    file.write_text("\n".join(json.dumps({"text": f"{word} {index}"}) for index in range(count)))
    target = tmp_path / f"{name}.mindrecord"
    preprocess(PreprocessOptions(str(file), target, 32, workers=1, show_progress=False), tokenizer)
    return str(target)


def test_weights_say_how_often_an_epoch_takes_a_source(small_tokenizer, tmp_path):
    few = dataset(tmp_path, small_tokenizer, "few", 10, "few")
    many = dataset(tmp_path, small_tokenizer, "many", 40, "many")
    loader = BatchLoader([few, many], 5, 32, 700, weights=[2.0, 0.25])
    assert loader.rows == 30 and loader.batches_per_epoch == 6

    def texts(epochs, start=Position()):
        batches = [batch for batch, _ in loader.batches(start, epochs)]
        rows = np.concatenate([batch.input_ids for batch in batches]).tolist()
        return [small_tokenizer.decode(row).split("<|endoftext|>")[0] for row in rows]

    epochs = texts(4)
    for epoch in range(4):
        own = epochs[30 * epoch : 30 * (epoch + 1)]
        assert sorted(item for item in own if "few" in item) == sorted([f"few {index}" for index in range(10)] * 2)
        assert len({item for item in own if "many" in item}) == 10
    assert {item for item in epochs if "many" in item} == {
        f"many {index}" for index in range(40)
    }  # once in four epochs
    assert texts(2, Position(1, 2)) == epochs[40:60]


def test_near_duplicates_are_left_out(shared_data):
    records = [item for item in read_records(shared_data / "code_alpaca_2k.json") if isinstance(item, Record)][:300]
    changed = [
        Record("copy", index, None, item.instruction, item.input, item.output.replace("    ", "  ") + "\n")
        for index, item in enumerate(records[:150])
        if len(item.output) > 200
    ]
    assert len(changed) > 8
    kept = list(near_duplicates([*records, *changed], 0.7))
    copies = [item for item in kept if isinstance(item, Finding) and item.record.file == "copy"]
    assert len(copies) == len(changed)
    assert sum(isinstance(item, Finding) for item in kept[:300]) < 15


def test_records_that_hold_a_problem_are_found(shared_data, tmp_path, capsys):
    from mindcoder.evaluate.problems import read_problems

    problem = read_problems(shared_data / "HumanEval.jsonl.gz", "humaneval")[7]
    clean, dirty = Document("f", 0, None, "x = 1\n" * 9), Document("f", 1, None, "# mine\n" + problem.solution * 2)
    texts = [(problem.task_id, problem.text), (problem.task_id, problem.text + problem.solution)]
    found = list(contaminated([clean, dirty, Document("f", 2, None, problem.text.upper())], texts))
    assert found[0] is clean and found[2].of == "HumanEval/7"
    file = tmp_path / "data.jsonl"
    file.write_text(json.dumps({"text": problem.text}) + "\n" + json.dumps({"text": "y = 2"}))
    against = f"humaneval={shared_data / 'HumanEval.jsonl.gz'}"
    assert main(["data", "decontaminate", str(file), str(tmp_path / "out.jsonl"), "--against", against]) == 0
    screen = capsys.readouterr().out
    assert "record 0 repeats humaneval HumanEval/7" in screen and "1 records kept, 1 left out" in screen
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {"text": "y = 2"}
    assert main(["data", "decontaminate", str(file), "o", "--against", "mbpp"]) == 2


def test_show_and_stats_tell_what_is_learned(small_tokenizer, tokenizer_folder, tmp_path, capsys):
    file = tmp_path / "d.jsonl"
    file.write_text(
        json.dumps({"instruction": "Say <b>hi</b>", "output": "print('hi')"}) + "\n" + json.dumps({"text": "x"})
    )
    target = tmp_path / "d.mindrecord"
    preprocess(PreprocessOptions(str(file), target, 256, True, workers=1, show_progress=False), small_tokenizer)
    (row,) = read_rows(str(target))
    first, second = (spans(ids, labels, small_tokenizer) for ids, labels in documents(row))
    assert [span.learned for span in first] == [False, True] and first[1].text == "print('hi')<|endoftext|>"
    assert [(span.text, span.learned) for span in second] == [("x<|endoftext|>", True)]
    vocabulary = str(tokenizer_folder / "tokenizer.json")
    assert main(["data", "show", str(target), "--vocab_file", vocabulary]) == 0
    assert "### Response:⟧print('hi')<|endoftext|>" in capsys.readouterr().out
    assert main(["data", "show", str(target), "--vocab_file", vocabulary, "--html", str(tmp_path / "p.html")]) == 0
    page = (tmp_path / "p.html").read_text()
    assert "Say &lt;b&gt;hi&lt;/b&gt;" in page and '<span class="learned">print(&#x27;hi&#x27;)' in page
    capsys.readouterr()
    assert main(["data", "stats", str(target)]) == 0
    assert "rows 1, documents 2 (2.00 a row)" in capsys.readouterr().out
    with pytest.raises(UserError):
        list(read_rows(str(tmp_path / "none.mindrecord")))


def test_text_files_are_tokenized_once_where_a_dataset_is_expected(small_tokenizer, tmp_path):
    file = tmp_path / "d.jsonl"
    file.write_text("\n".join(json.dumps({"instruction": "Say", "output": f"hi {index}"}) for index in range(20)))
    options = TextOptions(128, "wizardcoder")
    given = [str(file), "other.mindrecord"]
    first, other = prepare_texts(given, small_tokenizer, options, tmp_path / "data", True)
    assert other == "other.mindrecord" and first.startswith(str(tmp_path / "data" / "d-"))
    made = (tmp_path / "data").stat().st_mtime_ns
    assert prepare_texts(given, small_tokenizer, options, tmp_path / "data", False)[0] == first
    assert (tmp_path / "data").stat().st_mtime_ns == made
    os.truncate(first, 100)  # what a full disk left
    assert prepare_texts(given, small_tokenizer, options, tmp_path / "data", True)[0] == first
    assert os.path.getsize(first) > 100
    assert prepare_texts(given, small_tokenizer, TextOptions(64, "plain"), tmp_path / "data", True)[0] != first
    before = file.stat()
    file.write_text(file.read_text().replace("hi 7", "ha 7"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert prepare_texts(given, small_tokenizer, options, tmp_path / "data", True)[0] != first, "same size and time"
    file.write_text(file.read_text() + "\n" + json.dumps({"text": "more"}))
    assert prepare_texts(given, small_tokenizer, options, tmp_path / "data", True)[0] != first
    with pytest.raises(UserError, match="text needs a tokenizer"):
        prepare_texts(given, None, options, tmp_path / "data", True)
