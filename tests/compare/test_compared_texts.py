"""`TextReader`: the ids of every kind of record, windows of long documents, and tokenizers that disagree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLES

from mindcoder.compare import texts as module
from mindcoder.compare.texts import TextReader, find_texts
from mindcoder.data.preprocess import RecordEncoder
from mindcoder.data.readers import Reading, read_records
from mindcoder.errors import UserError
from mindcoder.tokenizer.bpe import train_tokenizer

CODE = "def add(a, b):\n    return a + b\n" * 30


def reader(file: Path, max_length: int = 64, tokens: int | None = None) -> TextReader:
    files, reading = find_texts(file)
    return TextReader(files, reading, "wizardcoder", max_length, tokens)


def write(file: Path, *records: object) -> Path:
    file.write_text("".join(json.dumps(item) + "\n" for item in records))
    return file


def test_records_are_encoded_as_for_training(small_tokenizer):
    found = list(reader(SAMPLES, 256).texts(small_tokenizer))
    encoder = RecordEncoder(small_tokenizer, 256, "wizardcoder")
    wanted = [encoder.encode(record) for record in read_records(SAMPLES, Reading())]
    assert len(found) == len(wanted) > 20
    for text, examples in zip(found, wanted):
        assert np.array_equal(text.ids, examples[0].input_ids) and text.start == 0


def test_a_long_document_becomes_windows_that_know_where_they_begin(small_tokenizer, tmp_path, monkeypatch):
    file = tmp_path / "code.py"
    file.write_text(CODE)
    ids = [*small_tokenizer.encode(CODE), small_tokenizer.eos_id]
    found = list(reader(file).texts(small_tokenizer))
    assert len(found) > 3 and np.concatenate([text.ids for text in found]).tolist() == ids
    assert [text.start for text in found] == list(range(0, len(ids), 64))
    assert found[0].place == f"{file}, record 0"
    monkeypatch.setattr(module, "PIECE", 100)  # parts of a very long file end at line ends and follow one another
    parts = list(reader(file).texts(small_tokenizer))
    assert "".join(small_tokenizer.decode(text.ids[:-1]) for text in parts) == CODE
    assert [text.start for text in parts] == np.cumsum([0, *(len(text.ids) for text in parts[:-1])]).tolist()


def test_tokens_limits_the_predictions_exactly(small_tokenizer, tmp_path):
    file = write(tmp_path / "d.jsonl", *({"text": CODE[:40]} for _ in range(5)))
    whole = list(reader(file).texts(small_tokenizer))
    limit = whole[0].predictions + 3
    found = list(reader(file, tokens=limit).texts(small_tokenizer))
    assert [text.predictions for text in found] == [limit - 3, 3] and found[1].line == 2
    assert np.array_equal(found[1].ids, whole[1].ids[:4])
    survey = reader(file, tokens=limit).survey(small_tokenizer, small_tokenizer, small_tokenizer.vocab_size)
    assert (survey.texts, survey.tokens) == (2, limit)


def test_both_answers_of_a_pair_are_texts(small_tokenizer, tmp_path):
    file = write(tmp_path / "p.jsonl", {"prompt": "Add.", "chosen": "a + b", "rejected": "a - b"})
    chosen, rejected = (small_tokenizer.decode(text.ids) for text in reader(file, 256).texts(small_tokenizer))
    assert "a + b" in chosen and "a - b" in rejected and "Add." in rejected


def test_what_is_cut_or_left_out_is_counted(small_tokenizer, tmp_path):
    long, cut = {"instruction": CODE, "output": "x"}, {"instruction": "Add.", "output": CODE}
    file = write(tmp_path / "d.jsonl", long, cut, {"text": CODE[:30]})
    survey = reader(file, 96).survey(small_tokenizer, small_tokenizer, small_tokenizer.vocab_size)
    assert (survey.texts, survey.truncated, len(survey.rejects)) == (2, 1, 1)
    assert survey.remarks()[0] == "1 records are cut at max_length"
    assert "left out: the prompt alone fills seq_length 96" in survey.remarks()[1]
    with pytest.raises(UserError, match="holds no text to compare on: the prompt alone fills"):
        reader(write(file, long)).survey(small_tokenizer, small_tokenizer, small_tokenizer.vocab_size)


def test_tokenizers_that_disagree_are_refused_at_the_first_text(small_tokenizer, tmp_path):
    other = train_tokenizer(["zzzz yyyy xxxx " * 50] * 3, 300)
    file = write(tmp_path / "d.jsonl", {"text": "q"}, {"text": "def add(a, b):"})
    with pytest.raises(UserError) as error:
        reader(file).survey(small_tokenizer, other, 10**6)
    told = str(error.value)
    assert "the two tokenizers give this text different ids: token" in told and "by A's and" in told
    assert told.startswith(f"{file}:1: record 0" if small_tokenizer.encode("q") != other.encode("q") else f"{file}:2")


def test_ids_outside_of_the_vocabulary_are_refused(small_tokenizer, tmp_path):
    file = write(tmp_path / "d.jsonl", {"text": CODE})
    with pytest.raises(UserError, match="is outside of the models' vocabulary of 50"):
        reader(file).survey(small_tokenizer, small_tokenizer, 50)


@pytest.mark.parametrize(
    "content, message",
    [("", "holds no text to compare on"), ("\n\n", "holds no text"), ("{broken\n", "d.jsonl:1: record 0")],
)
def test_files_without_texts_are_refused(small_tokenizer, tmp_path, content, message):
    file = tmp_path / "d.jsonl"
    file.write_text(content)
    with pytest.raises(UserError, match=message):
        reader(file).survey(small_tokenizer, small_tokenizer, small_tokenizer.vocab_size)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere.jsonl: no such file"):
        find_texts(tmp_path / "nowhere.jsonl")
