"""Batches straight from JSON and JSONL."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import SAMPLES

from mindcoder.data.encode import IGNORED_LABEL
from mindcoder.data.infill import InfillOptions
from mindcoder.data.loader import Position
from mindcoder.data.preprocess import RecordEncoder
from mindcoder.data.readers import read_records
from mindcoder.data.record_index import RecordIndex
from mindcoder.data.stream import StreamLoader, StreamOptions
from mindcoder.errors import UserError

LENGTH = 128


@pytest.fixture
def code(tmp_path):
    """Forty short documents, one a line, with an empty line and a foreign letter between them."""
    file = tmp_path / "code.jsonl"
    lines = [json.dumps({"text": f"def f{number}(x):\n    return x * {number}  # é\n"}) for number in range(40)]
    file.write_text("\n".join([*lines[:7], "", *lines[7:]]) + "\n", encoding="utf-8")
    return str(file)


def stream(locations, tokenizer, **options) -> StreamLoader:
    return StreamLoader(locations, tokenizer, StreamOptions(LENGTH, "wizardcoder", **options))


def arrays(loader, start=Position()):
    return [(batch.input_ids, batch.labels, batch.document_ids) for batch, _ in loader.batches(start)]


def same(first, second) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(a, b) for one, other in zip(first, second) for a, b in zip(one, other)
    )


def texts(batches, tokenizer) -> list[str]:
    """The documents of batches, in order of the rows."""
    found = []
    for ids, _, documents in batches:
        for row, marks in zip(ids, documents):
            found += [tokenizer.decode(row[marks == number].tolist()) for number in range(marks.max() + 1)]
    return found


def test_records_are_found_by_number_in_any_file(code, tmp_path):
    index = RecordIndex([code, str(SAMPLES)])
    expected = [*read_records(tmp_path / "code.jsonl"), *read_records(SAMPLES)]
    assert index.sizes == [40, len(expected) - 40]
    order = np.random.default_rng(0).permutation(len(expected))
    assert [index[number] for number in order] == [expected[number] for number in order]


def test_every_record_comes_once_a_pass(code, small_tokenizer):
    loader = stream([code], small_tokenizer, batch_size=2, batches=30)
    times = np.bincount([number for batch, _ in loader.batches() for number in batch.rows], minlength=40)
    assert times.min() > 4 and times.max() < 13  # rows are packed side by side, so passes overlap
    seen = texts(arrays(loader), small_tokenizer)
    assert {f"def f{number}(x):\n    return x * {number}  # é\n<|endoftext|>" for number in range(40)} == set(seen)


def test_batches_equal_those_of_preprocessing_the_same_records(small_tokenizer):
    loader = stream([str(SAMPLES)], small_tokenizer, shuffle=False, batches=3)
    encoder = RecordEncoder(small_tokenizer, LENGTH, "wizardcoder")
    known = {example.input_ids.tobytes() for item in read_records(SAMPLES) for example in _examples(encoder, item)}
    for batch, _ in loader.batches():
        for number in range(batch.document_ids.max() + 1):
            own = batch.document_ids[0] == number
            assert batch.input_ids[0][own].tobytes() in known
            assert np.array_equal(batch.position_ids[0][own], np.arange(own.sum()))
        assert (batch.labels == IGNORED_LABEL).any() and batch.label_count > 0


def _examples(encoder, record):
    result = encoder.encode(record)
    return result if isinstance(result, list) else []


def test_a_position_is_found_again(code, small_tokenizer):
    whole = stream([code], small_tokenizer, batch_size=2, batches=9, infill=InfillOptions(0.5))
    positions = [position for _, position in whole.batches()]
    assert positions[3] == Position(0, 4) and positions[-1] == Position(1, 0)
    assert same(arrays(whole, positions[3]), arrays(whole)[4:])


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_batches_of_one(code, small_tokenizer, world):
    whole = arrays(stream([code], small_tokenizer, batch_size=4, batches=5, seed=3))
    parts = [
        arrays(stream([code], small_tokenizer, batch_size=4 // world, batches=5, seed=3, rank=rank, world=world))
        for rank in range(world)
    ]
    joined = [tuple(np.concatenate(pieces) for pieces in zip(*batch)) for batch in zip(*parts)]
    assert same(joined, whole)


def test_gaps_are_drawn_anew_in_every_pass(code, small_tokenizer):
    loader = stream([code], small_tokenizer, batches=60, infill=InfillOptions(1.0))
    found: dict[int, set[str]] = {}
    for batch, _ in loader.batches():
        for number, record in enumerate(batch.rows):
            ids = batch.input_ids[0][batch.document_ids[0] == number]
            found.setdefault(int(record), set()).add(small_tokenizer.decode(ids.tolist()))
    assert sum(len(ways) > 1 for ways in found.values()) > 30
    assert all("<fim_prefix>" in text for ways in found.values() for text in ways)


def test_weights_mix_sources(code, small_tokenizer):
    loader = stream([code, str(SAMPLES)], small_tokenizer, batches=4, weights=[0.0, 1.0])
    assert min(number for batch, _ in loader.batches() for number in batch.rows) >= 40


def test_what_cannot_be_used_is_said(tmp_path, small_tokenizer):
    file = tmp_path / "x.jsonl"
    file.write_text('{"text": "a = 1"}\n\n{"text": 3}\n')
    with pytest.raises(UserError, match=r"record 1: .*") as error:
        list(stream([str(file)], small_tokenizer, batches=50).batches())
    assert error.value.line == 3
    file.write_text('{"text": " "}\n{"text": ""}\n')
    with pytest.raises(UserError, match="text is empty"):
        list(stream([str(file)], small_tokenizer).batches())
    file.write_text("\n")
    with pytest.raises(UserError, match="holds no record"):
        stream([str(file)], small_tokenizer)


def test_leaving_early_ends_the_thread(code, small_tokenizer):
    import threading

    batches = stream([code], small_tokenizer, batches=1000).batches()
    next(batches)
    batches.close()
    assert not any(thread.name == "stream" for thread in threading.enumerate())
