"""Damaged MindRecord files, their index and their description: one line that names the file."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

from mindcoder.data.loader import BatchLoader
from mindcoder.data.mindrecord_file import find_dataset, info_path, write_dataset
from mindcoder.data.packing import Row
from mindcoder.data.show import statistics
from mindcoder.errors import UserError

LENGTH, VOCAB = 8, 50


def rows(**changes):
    """Three rows, with columns of other numbers where ``changes`` say so."""
    for number in range(3):
        columns = {
            "input_ids": np.full(LENGTH, number + 1, np.int32),
            "labels": np.full(LENGTH, number + 1, np.int32),
            "position_ids": np.arange(LENGTH, dtype=np.int32),
            "document_ids": np.zeros(LENGTH, np.int32),
        }
        for name, value in changes.items():
            columns[name][-1] = value
        yield Row(**columns, used=LENGTH)


def read(file):
    return list(BatchLoader(str(file), 1, LENGTH, VOCAB, shuffle=False).batches())


@pytest.fixture
def dataset(tmp_path):
    file = tmp_path / "d.mindrecord"
    write_dataset(rows(), file, LENGTH, VOCAB)
    return file


def described(file, **changes):
    """Change the description."""
    whole = json.loads(info_path(file).read_text())
    info_path(file).write_text(json.dumps({**whole, **changes}))


def index_of(file):
    return file.with_name(file.name + ".db")


DESCRIPTIONS = {
    "a list": (lambda file: info_path(file).write_text("[]"), "holds a list, expected an object"),
    "bytes": (lambda file: info_path(file).write_bytes(b"\xff\xfe\0"), "is UTF-16, expected UTF-8"),
    "deep": (lambda file: info_path(file).write_text("[" * 100_000), "JSON nested more than"),
    "cut": (lambda file: info_path(file).write_text('{"complete": tr'), "bad JSON"),
    "empty": (lambda file: info_path(file).write_text(""), "bad JSON"),
    "no files": (lambda file: described(file, files=None), "files: expected an object, found null"),
    "other files": (lambda file: described(file, files={"../../etc/passwd": 3}), "expected names in this folder"),
    "an index only": (lambda file: described(file, files={"d.mindrecord.db": 3}), "names no MindRecord file"),
    "a text": (lambda file: described(file, seq_length="8"), "seq_length: expected a whole number, found a text"),
    "a fraction": (lambda file: described(file, rows=1.5), "rows: expected a whole number, found a number"),
    "nothing": (lambda file: described(file, rows=0), "rows is 0"),
    "another key": (lambda file: described(file, compressed=True), "unknown key 'compressed'"),
    "interrupted": (lambda file: described(file, complete=False), "preprocessing was interrupted"),
}


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_a_damaged_description_is_one_line(kind, dataset):
    damage, reason = DESCRIPTIONS[kind]
    damage(dataset)
    with pytest.raises(UserError, match=reason) as error:
        find_dataset(str(dataset))
    assert str(dataset) in str(error.value) and "\n" not in str(error.value)


FILES = {
    "truncated": lambda file: os.truncate(file, 1000),
    "emptied": lambda file: os.truncate(file, 0),
    "zeroed": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "noise": lambda file: file.write_bytes(np.random.default_rng(0).bytes(100_000)),
    "without an index": lambda file: index_of(file).unlink(),
    "with an empty index": lambda file: os.truncate(index_of(file), 0),
    "with another index": lambda file: index_of(file).write_bytes(b"x" * 1000),
    "with a cut index": lambda file: os.truncate(index_of(file), 5000),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_file_is_one_line(kind, dataset):
    info_path(dataset).unlink()  # as a file of the old script, or one that was copied by hand
    FILES[kind](dataset)
    for use in (read, lambda file: statistics(str(file))):
        with pytest.raises(
            UserError, match=r"is not a readable MindRecord: \S|its index \(.db\) is not beside it"
        ) as error:
            use(dataset)
        assert str(dataset) in str(error.value) and "\n" not in str(error.value)
        assert "Call Stack" not in str(error.value) and "Dataset Pipeline" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"input_ids": VOCAB}, "column input_ids holds 50, the model has vocab_size 50"),
        ({"input_ids": -3}, "column input_ids holds -3, the model has vocab_size 50"),
        ({"labels": 70}, "column labels holds 70, the model has vocab_size 50"),
        ({"labels": -1}, "column labels holds -1"),
        ({"position_ids": LENGTH}, "column position_ids holds 8, rows have 8 tokens"),
        ({"document_ids": -2}, "column document_ids holds -2"),
    ],
)
def test_numbers_that_a_column_cannot_hold_are_refused(changes, reason, tmp_path):
    file = tmp_path / "d.mindrecord"
    write_dataset(rows(**changes), file, LENGTH, VOCAB)
    with pytest.raises(UserError, match=reason):
        read(file)


def test_a_document_in_two_places_of_a_row_is_refused(tmp_path):
    file = tmp_path / "d.mindrecord"
    write_dataset(
        (
            Row(row.input_ids, row.labels, row.position_ids, np.array([0, 0, 1, 1, 0, 0, -1, -1], np.int32), LENGTH)
            for row in rows()
        ),
        file,
        LENGTH,
        VOCAB,
    )
    with pytest.raises(UserError, match="column document_ids has 0 in 2 places of a row; expected one"):
        read(file)


@pytest.mark.parametrize("name", ["input_ids", "document_ids"])
def test_a_column_of_floats_is_refused(name, tmp_path):
    file = tmp_path / "d.mindrecord"
    write_floats(file, name)
    with pytest.raises(UserError, match=f"column {name} holds float32, expected whole numbers"):
        read(file)


def write_floats(file, name):
    """A file of ours with one column of another type."""
    from mindspore.mindrecord import FileWriter

    whole = next(rows())
    columns = {"input_ids": whole.input_ids, "labels": whole.labels, "position_ids": whole.position_ids}
    columns["document_ids"] = whole.document_ids
    columns[name] = columns[name].astype(np.float32)
    writer = FileWriter(str(file), 1)
    schema = {key: {"type": str(value.dtype), "shape": [LENGTH]} for key, value in columns.items()}
    writer.add_schema(schema)
    writer.write_raw_data([columns])
    writer.commit()


def test_a_row_of_padding_alone_goes_into_the_shortest_bucket(tmp_path):
    file = tmp_path / "d.mindrecord"
    empty = np.full(LENGTH, -1, np.int32)
    first, *others = rows()
    write_dataset([Row(first.input_ids, first.labels, first.position_ids, empty, 0), *others], file, LENGTH, VOCAB)
    loader = BatchLoader(str(file), 1, LENGTH, VOCAB, shuffle=False, buckets=[4, LENGTH])
    assert sorted(batch.input_ids.shape[1] for batch, _ in loader.batches()) == [4, LENGTH, LENGTH]


def test_whole_files_are_read(dataset, tmp_path):
    assert len(read(dataset)) == 3
    (tmp_path / "copy").mkdir()
    for file in (dataset, index_of(dataset)):
        shutil.copy(file, tmp_path / "copy")
    assert len(read(tmp_path / "copy")) == 3
    (tmp_path / "link.mindrecord").symlink_to("gone")
    for place, reason in (
        ("link.mindrecord", "is a link to gone"),
        ("none", "no such MindRecord"),
        ("e", "no MindRecord"),
    ):
        if place == "e":
            (tmp_path / place).mkdir()
        with pytest.raises(UserError, match=reason):
            find_dataset(str(tmp_path / place))
