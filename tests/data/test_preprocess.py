"""Instruction files to rows: labels, packing, bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mindcoder.data.encode import IGNORED_LABEL, encode_record
from mindcoder.data.mindrecord_file import find_dataset, info_path
from mindcoder.data.packing import pack, pack_first_fit
from mindcoder.data.preprocess import PreprocessOptions, preprocess, rejects_path
from mindcoder.data.prompt import build_prompt
from mindcoder.data.readers import BadRecord, Record, read_records
from mindcoder.errors import NoSpaceError, UserError


def record(instruction="Say hi", context="", output="hi"):
    return Record("f", 0, None, instruction, context, output)


def rows_of(location):
    """All rows of a dataset in file order."""
    import mindspore.dataset as ds

    files, info = find_dataset(str(location))
    return list(ds.MindDataset(files, shuffle=False).create_dict_iterator(1, output_numpy=True)), info


def options(source, target, **changes):
    return PreprocessOptions(
        str(source), target, **{"seq_length": 256, "workers": 1, "show_progress": False, **changes}
    )


def test_prompts_are_wizardcoders():
    assert build_prompt("Sort it").endswith("### Instruction:\nSort it\n\n### Response:")
    assert "### Input:\n[3, 1]\n\n### Response:" in build_prompt("Sort it", "[3, 1]")


def test_labels_start_where_the_answer_starts_on_every_record(shared_data, small_tokenizer):
    for item in read_records(shared_data / "code_alpaca_2k.json"):
        if isinstance(item, BadRecord):
            assert item.reason == "output is empty"
            continue
        example = encode_record(item, small_tokenizer, 4096)
        prompt = build_prompt(item.instruction, item.input)
        ids = example.input_ids.tolist()
        learned = [token for token, label in zip(ids, example.labels) if label != IGNORED_LABEL]
        assert small_tokenizer.decode(ids[:-1]) == prompt + item.output
        assert ids[-1] == learned[-1] == small_tokenizer.eos_id
        text = small_tokenizer.decode(learned[:-1])
        # A token across the seam brings the end of the prompt along; nothing of the answer is ever left out.
        assert text.endswith(item.output) and len(text) - len(item.output) < 16


def test_truncation_and_prompts_without_room(small_tokenizer):
    whole = encode_record(record(output="abc " * 50), small_tokenizer, 4096)
    cut = encode_record(record(output="abc " * 50), small_tokenizer, 100)
    assert cut.truncated and len(cut.input_ids) == 100 and cut.labels[-1] == cut.input_ids[-1] != small_tokenizer.eos_id
    assert not whole.truncated and whole.input_ids[:100].tolist() == cut.input_ids.tolist()
    assert encode_record(record("word " * 200), small_tokenizer, 100) is None


def test_packing_keeps_every_token_and_marks_documents(small_tokenizer):
    examples = [encode_record(record(output="x" * length), small_tokenizer, 200) for length in (5, 90, 30, 60, 3, 77)]
    rows = list(pack_first_fit(examples, 256, small_tokenizer.pad_id, open_rows=2))
    assert sum(row.used for row in rows) == sum(len(example.input_ids) for example in examples)
    assert len(rows) < len(examples)
    for row in rows:
        for document in range(row.document_ids.max() + 1):
            inside = row.document_ids == document
            assert row.position_ids[inside].tolist() == list(range(inside.sum()))
            assert row.input_ids[inside][-1] == small_tokenizer.eos_id
            assert row.labels[np.argmax(inside)] == IGNORED_LABEL
        assert (row.labels[row.document_ids < 0] == IGNORED_LABEL).all()


def test_workers_and_partitions_change_nothing(shared_data, small_tokenizer, tmp_path):
    source = shared_data / "code_alpaca_2k.json"
    _, serial = preprocess(options(source, tmp_path / "a.mindrecord"), small_tokenizer)
    info, parallel = preprocess(
        options(source, tmp_path / "b.mindrecord", workers=2, file_partition=3), small_tokenizer
    )
    assert serial.as_dict() == parallel.as_dict() and serial.records == 2017
    assert len([name for name in info.files if not name.endswith(".db")]) == 3
    first, _ = rows_of(tmp_path / "a.mindrecord")
    second, _ = rows_of(tmp_path / "b.mindrecord")
    as_set = [sorted(tuple(row["input_ids"].tolist()) for row in rows) for rows in (first, second)]
    assert as_set[0] == as_set[1]


def test_json_and_jsonl_are_told_apart_by_content(small_tokenizer, tmp_path):
    items = [{"instruction": f"do {n}", "input": "", "output": f"done {n}"} for n in range(5)]
    (tmp_path / "array.txt").write_text("\ufeff \n" + json.dumps(items))
    (tmp_path / "lines.txt").write_text("\n".join(json.dumps(item) for item in items) + "\n\n")
    array, lines = (list(read_records(tmp_path / name)) for name in ("array.txt", "lines.txt"))
    assert [item.instruction for item in array] == [item.instruction for item in lines]
    _, statistics = preprocess(options(tmp_path / "*.txt", tmp_path / "o.mindrecord"), small_tokenizer)
    assert statistics.records == 10


def test_seed_tasks_are_read(shared_data):
    found = list(read_records(shared_data / "alpaca_seed_tasks.jsonl"))
    assert len(found) == 175 and sum(isinstance(item, Record) for item in found) > 170


def test_a_bad_record_stops_the_run_and_is_named(small_tokenizer, tmp_path):
    good = json.dumps({"instruction": "a", "output": "b"})
    source = tmp_path / "bad.jsonl"
    source.write_text(f'{good}\n{{"instruction": 3, "output": "b"}}\nnot json\n{good}\n')
    target = tmp_path / "o.mindrecord"
    with pytest.raises(UserError, match=r"bad.jsonl:2: record 1: instruction: expected a text, found int"):
        preprocess(options(source, target), small_tokenizer)
    assert list(tmp_path.iterdir()) == [source]  # nothing half-written
    _, statistics = preprocess(options(source, target, skip_bad=True), small_tokenizer)
    assert (statistics.rows, statistics.rejected) == (2, 2)
    rejects = [json.loads(line) for line in rejects_path(target).read_text().splitlines()]
    assert [(item["line"], item["reason"].split(":")[0]) for item in rejects] == [(2, "instruction"), (3, "bad JSON")]


def test_bad_json_array_names_the_line(small_tokenizer, tmp_path):
    source = tmp_path / "bad.json"
    source.write_text('[\n {"instruction": "a", "output": "b"},\n {"instruction": }\n]')
    with pytest.raises(UserError, match=r"bad.json:3: bad JSON"):
        preprocess(options(source, tmp_path / "o.mindrecord"), small_tokenizer)


def test_interrupted_or_damaged_datasets_are_refused(small_tokenizer, tmp_path):
    source = tmp_path / "a.jsonl"
    source.write_text(json.dumps({"instruction": "a", "output": "b"}) + "\n")
    target = tmp_path / "o.mindrecord"
    preprocess(options(source, target), small_tokenizer)
    info = info_path(target)
    whole = info.read_text()
    info.write_text(whole.replace('"complete": true', '"complete": false'))
    with pytest.raises(UserError, match="preprocessing was interrupted"):
        find_dataset(str(target))
    info.write_text(whole)
    with open(target, "r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(UserError, match=r"damaged dataset: expected \d+ bytes, found 1000 bytes"):
        find_dataset(str(target))


@pytest.mark.parametrize("partitions", [1, 2])
def test_a_dataset_is_only_replaced_when_asked_to(partitions, small_tokenizer, tmp_path):
    source = tmp_path / "a.jsonl"
    source.write_text((json.dumps({"instruction": "a", "output": "b"}) + "\n") * 4)
    target = tmp_path / "o.mindrecord"
    preprocess(options(source, target, file_partition=partitions), small_tokenizer)
    first = target if partitions == 1 else tmp_path / "o.mindrecord0"
    before = first.read_bytes()
    source.write_text((json.dumps({"instruction": "c", "output": "d"}) + "\n") * 5)
    with pytest.raises(UserError, match=f"{first.name}: exists; add --overwrite to replace it"):
        preprocess(options(source, target, file_partition=partitions), small_tokenizer)
    assert first.read_bytes() == before
    preprocess(options(source, target, file_partition=partitions, overwrite=True), small_tokenizer)
    assert find_dataset(str(target))[1].rows == 5


def test_full_disk_leaves_the_earlier_dataset(small_tokenizer, tmp_path, monkeypatch):
    source = tmp_path / "a.jsonl"
    source.write_text((json.dumps({"instruction": "a", "output": "b"}) + "\n") * 300)
    target = tmp_path / "o.mindrecord"
    preprocess(options(source, target), small_tokenizer)
    before = target.read_bytes()
    monkeypatch.setattr("mindcoder.files.shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(NoSpaceError, match="no disk space"):
        preprocess(options(source, target, overwrite=True), small_tokenizer)
    assert target.read_bytes() == before and find_dataset(str(target))[1].rows == 300
    assert not [path for path in tmp_path.iterdir() if ".tmp-" in path.name]


def test_pack_of_one_equals_padding(small_tokenizer):
    example = encode_record(record(), small_tokenizer, 200)
    row = pack([example], 200, small_tokenizer.pad_id)
    assert row.used == len(example.input_ids) and (row.input_ids[row.used :] == small_tokenizer.pad_id).all()
