"""Damaged and hostile files of records: one line with file and line, or a bad record; never anything else."""

from __future__ import annotations

import gzip
import json
import os
import random

import pytest
from layout_examples import OTHERS

from mindcoder.data.mindrecord_file import find_dataset
from mindcoder.data.preprocess import PreprocessOptions, preprocess, rejects_path
from mindcoder.data.readers import BadRecord, Conversation, Document, Reading, Record, expand_glob, read_records
from mindcoder.data.readers import files as record_files
from mindcoder.data.readers.layouts import read_item
from mindcoder.data.record_index import RecordIndex
from mindcoder.errors import UserError

GOOD = b'{"instruction": "a", "output": "b"}'

# name, content, where the error stands, what it says: bad records, which --skip_bad leaves out
BAD_LINES = [
    ("not UTF-8", b'{"instruction": "\xff", "output": "b"}', "is not UTF-8 text: invalid start byte (byte 17"),
    ("cut UTF-8", '{"output": "é'.encode()[:-1], "is not UTF-8 text: invalid continuation byte"),
    ("a NUL byte", b'{"instruction": "a\0", "output": "b"}', "bad JSON: Invalid control character"),
    ("deep", b"[" * 100_000, "JSON nested more than 64 deep"),
    ("deep and closed", b'{"a":' * 5000 + b"1" + b"}" * 5000, "JSON nested more than 64 deep"),
    ("a long number", b'{"id": ' + b"9" * 5000 + b"}", "a number of more than 4300 digits"),
    ("an endless number", b'{"id": 1e999, "instruction": "a", "output": "b"}', "1e999 is not a finite number"),
    ("not a number", b'{"id": NaN, "instruction": "a", "output": "b"}', "NaN is not a finite number"),
    ("half a surrogate", b'{"instruction": "a", "output": "b\\ud83d"}', "half of a character (a lone surrogate)"),
    ("a key twice", b'{"instruction": "a", "output": "b", "output": "c"}', "the key 'output' occurs twice"),
    ("two objects", GOOD + GOOD, "bad JSON: Extra data at column 36"),
    ("cut short", GOOD[:-2], "bad JSON: Unterminated string"),
    ("half in quotes", b'"text"', "expected an object, found a text"),
    ("null", b"null", "expected an object, found null"),
    ("roles of another kind", b'{"messages": [{"role": ["user"], "content": "x"}]}', "turn 0: expected a role"),
    ("turns of another kind", b'{"messages": [[1], null]}', "turn 0: expected a role"),
    ("answers of another kind", b'{"instruction": "a", "chosen": 1, "rejected": []}', "chosen: expected a list"),
    ("a call of another kind", b'{"messages": [{"role": "assistant", "tool_calls": [3]}]}', "expected a call"),
    ("a deep answer", b'{"instruction": "a", "output": ' + b"[" * 60 + b"]" * 60 + b"}", "output: expected a text"),
]


@pytest.mark.parametrize(("name", "line", "reason"), BAD_LINES, ids=[name for name, _, _ in BAD_LINES])
def test_a_bad_line_is_named_and_can_be_skipped(name, line, reason, tmp_path, small_tokenizer):
    file, target = tmp_path / "x.jsonl", tmp_path / "o.mindrecord"
    file.write_bytes(GOOD + b"\n\n" + line + b"\n" + GOOD + b"\n")
    first, bad, last = read_records(file)
    assert isinstance(first, Record) and isinstance(last, Record)
    assert isinstance(bad, BadRecord) and bad.broken and reason in bad.reason and bad.line == 3
    assert RecordIndex([str(file)])[1] == bad
    options = PreprocessOptions(str(file), target, 64, workers=1, show_progress=False)
    with pytest.raises(UserError, match=r"x.jsonl:3: record 1: "):
        preprocess(options, small_tokenizer)
    assert os.listdir(tmp_path) == ["x.jsonl"]


def test_skipped_lines_can_be_written_down_whatever_they_hold(tmp_path, small_tokenizer):
    file, target = tmp_path / "x.jsonl", tmp_path / "o.mindrecord"
    file.write_bytes(b"\n".join([GOOD, *(line for _, line, _ in BAD_LINES)]))
    options = PreprocessOptions(str(file), target, 256, workers=1, show_progress=False, skip_bad=True)
    _, statistics = preprocess(options, small_tokenizer)
    assert (statistics.rows, statistics.rejected) == (1, len(BAD_LINES))
    rejects = [json.loads(line) for line in rejects_path(target).read_text(encoding="utf-8").splitlines()]
    assert [item["line"] for item in rejects] == list(range(2, len(BAD_LINES) + 2))


FILES = [
    ("x.jsonl", gzip.compress(GOOD, mtime=0), "is gzip: unpack it first"),
    ("x.json", b"PK\x03\x04rest", "is a ZIP archive"),
    ("x.json", b"PAR1rest", "is Parquet: turn it into JSONL"),
    ("x.jsonl", b"SQLite format 3\0", "is an SQLite database"),
    ("x.json", '[{"text": "a"}]'.encode("utf-16"), "is UTF-16, expected UTF-8"),
    ("x.csv", b"instruction,output\na,b\n", "is CSV, expected JSON or JSONL"),
    ("x.py", b"x = 1\n\0\0", "x.py:2: holds a NUL byte"),
    ("x.py", b"x = 1\n\xff", "x.py:2: is not UTF-8 text"),
    ("x.json", b'[\n{"text": "a"},\n{"text": \xff}]', "x.json:3: is not UTF-8 text"),
    ("x.json", b'[\n{"text": "a"},\n{"text": }]', "x.json:3: bad JSON"),
    ("x.json", b"[" * 100_000, "JSON nested more than 64 deep"),
    ("x.json", b'[{"text": "a"}', "bad JSON"),
    ("x.json", b'[{"id": ' + b"9" * 5000 + b"}]", "a number of more than 4300 digits"),
]


@pytest.mark.parametrize(("name", "content", "reason"), FILES)
def test_files_that_hold_no_records_are_refused_in_one_line(name, content, reason, tmp_path):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(UserError) as error:
        list(read_records(file))
    assert reason in str(error.value) and str(file) in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "link.json").symlink_to("gone.json")
    (tmp_path / "folder.json").mkdir()
    for name, reason in (
        ("pipe.json", "is not a regular file"),
        ("link.json", "is a link to gone.json, which does not exist"),
        ("folder.json", "is a folder"),
        ("none.json", "no such file"),
        ("nul\0.json", "no such file"),
    ):
        with pytest.raises(UserError, match=reason):
            list(read_records(tmp_path / name))


def test_a_long_line_is_refused_before_it_is_read(tmp_path, monkeypatch):
    file = tmp_path / "x.jsonl"
    file.write_bytes(GOOD + b"\n" + b'{"text": "' + b"x" * 3000 + b'"}\n')
    for module in ("readers.files", "record_index"):
        monkeypatch.setattr(f"mindcoder.data.{module}.LINE_LIMIT", 2000)
    for read in (lambda: list(read_records(file)), lambda: RecordIndex([str(file)])):
        with pytest.raises(UserError, match=r"x.jsonl:2: a line of more than"):
            read()
    monkeypatch.setattr(record_files, "WHOLE_LIMIT", 1000)
    (tmp_path / "y.json").write_bytes(b"[" + b" " * 2000 + b"]")
    with pytest.raises(UserError, match="y.json: is longer than 1000 bytes"):
        list(read_records(tmp_path / "y.json"))


def test_byte_order_marks_line_ends_and_escaped_nul_are_no_trouble(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\r\n\r\n" + b'{"instruction": "a\\u0000{input}", "output": "b"}\r\n')
    first, second = read_records(file)
    assert (first.line, second.line) == (1, 3) and second.instruction == "a\0{input}"
    assert [RecordIndex([str(file)])[0], RecordIndex([str(file)])[1]] == [first, second]


def test_one_object_over_several_lines_is_one_record(tmp_path):
    file = tmp_path / "moss.json"
    item = {"conversation": [{"human": "q", "assistant": "a"}]}
    file.write_text(json.dumps(item, indent=4))
    (found,) = read_records(file)
    assert isinstance(found, Conversation) and len(found.messages) == 2
    assert RecordIndex([str(file)])[0] == found
    file.write_text(json.dumps({"version": 1, "data": [item]}, indent=1))
    (wrapped,) = read_records(file)
    assert isinstance(wrapped, BadRecord) and "the record has: version, data" in wrapped.reason


def test_prose_in_a_text_file_is_a_text(tmp_path):
    (tmp_path / "a.txt").write_text("Once upon a time.\n")
    (tmp_path / "b.txt").write_bytes(GOOD)
    (text,), (record,) = (list(read_records(tmp_path / name)) for name in ("a.txt", "b.txt"))
    assert isinstance(text, Document) and text.content == "Once upon a time.\n" and isinstance(record, Record)


ODD = (None, True, 0, 1, -1, 3.5, "", "x", "\ud800", [], {}, [[]], [{}], {"a": 1}, [None], ["a", "b"], [["a", "b"]],
       {"type": "text", "text": "t"}, [{"role": "user", "content": "q"}], 10**30, "[[[", '{"name": "f"}', {"role": []},
       {"from": "gpt"})  # fmt: skip
NAMES = ("role", "from", "content", "value", "history", "system", "tools", "label", "kto_tag", "tool_calls", "weight",
         "input", "images", "prompt", "chosen", "completion", "messages", "instances", "num_turns")  # fmt: skip


def changed(value, rng):
    """A JSON value with some parts left out, renamed or replaced by odd ones."""
    if rng.random() < 0.1:
        return rng.choice(ODD)
    if isinstance(value, dict):
        kept = [(name, item) for name, item in value.items() if rng.random() > 0.06]
        return {rng.choice(NAMES) if rng.random() < 0.05 else name: changed(item, rng) for name, item in kept}
    return [changed(item, rng) for item in value if rng.random() > 0.05] if isinstance(value, list) else value


def test_whatever_a_record_holds_it_is_read_or_refused(tmp_path):
    """A record of any shape is a record whose texts can be encoded, or a bad record that can be written down."""
    rng = random.Random(0)
    examples = [item for item, _ in OTHERS.values()] + [{"instruction": "a", "chosen": "b", "rejected": "c"}]
    counts = [0, 0]
    for _ in range(4000):
        reading = rng.choice([Reading(), Reading(desirable_only=True), Reading((("instruction", "x"),))])
        found = read_item(tmp_path / "x", 0, None, changed(rng.choice(examples), rng), reading)
        if isinstance(found, BadRecord):
            assert found.reason and found.text.encode() is not None
        else:
            json.dumps(found.fields(), ensure_ascii=False).encode()
        counts[isinstance(found, BadRecord)] += 1
    assert min(counts) > 500


def test_a_link_to_a_device_is_no_regular_file(tmp_path):
    for name in ("x.jsonl", "x.mindrecord"):
        (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(UserError, match="x.jsonl: is not a regular file"):
        expand_glob(tmp_path / "x.jsonl")
    with pytest.raises(UserError, match="x.mindrecord: is not a regular file"):
        find_dataset(str(tmp_path / "x.mindrecord"))
    (tmp_path / "y.jsonl").symlink_to(tmp_path / "none")
    with pytest.raises(UserError, match="is a link to .*none, which does not exist"):
        expand_glob(tmp_path / "y.jsonl")
