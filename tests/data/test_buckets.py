"""Batches of rows of about the same length."""

from __future__ import annotations

import numpy as np
import pytest

from mindcoder.data.buckets import LengthBuckets
from mindcoder.data.encode import IGNORED_LABEL, Example
from mindcoder.data.loader import BatchLoader, DataLayout, Position, convert_position
from mindcoder.data.mindrecord_file import write_dataset
from mindcoder.data.packing import pack

ROWS, LENGTH = 45, 32


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Rows of 3 to 32 tokens whose first is their number."""
    path = tmp_path_factory.mktemp("data") / "d.mindrecord"
    lengths = np.random.default_rng(0).integers(3, LENGTH + 1, ROWS)

    def rows():
        for number, length in enumerate(lengths):
            ids = np.array([number, *range(50, 49 + length)], np.int32)
            yield pack([Example(ids, ids.copy(), False)], LENGTH, 99)

    write_dataset(rows(), path, LENGTH, 100)
    return str(path), lengths


def loader_of(dataset, size=4, **options) -> BatchLoader:
    return BatchLoader(dataset[0], size, LENGTH, 100, seed=3, buckets=[8, 16], **options)


def test_each_row_comes_once_in_a_batch_that_it_fits_into(dataset):
    loader = loader_of(dataset, drop_remainder=False)
    assert loader.lengths == (8, 16, 32) and loader.batches_per_epoch == 12
    plain = BatchLoader(dataset[0], 1, LENGTH, 100, shuffle=False)
    whole = {int(batch.rows[0]): batch for batch, _ in plain.batches()}
    seen, computed = [], 0
    for batch, _ in loader.batches():
        length = batch.input_ids.shape[1]
        computed += batch.input_ids.size
        for place, number in enumerate(batch.rows):
            seen.append(int(number))
            assert batch.input_ids[place, 0] == number and dataset[1][number] <= length
            assert np.array_equal(batch.labels[place], whole[number].labels[0, :length])
            assert (whole[number].labels[0, length:] == IGNORED_LABEL).all()
    assert sorted(seen) == list(range(ROWS))
    assert computed < 0.75 * 12 * 4 * LENGTH


def test_epochs_differ_and_positions_are_found_again(dataset):
    loader = loader_of(dataset)
    whole = [(batch.rows.tolist(), position) for batch, position in loader.batches(epochs=2)]
    assert [rows for rows, _ in whole[:11]] != [rows for rows, _ in whole[11:]]
    for index in (0, 5, 10, 14):
        rest = [batch.rows.tolist() for batch, _ in loader.batches(whole[index][1], 2)]
        assert rest == [rows for rows, _ in whole[index + 1 :]]


def test_processes_share_batches_of_one_length(dataset):
    whole = [(batch.rows.tolist(), batch.input_ids.shape[1]) for batch, _ in loader_of(dataset).batches()]
    parts = [
        [
            (batch.rows.tolist(), batch.input_ids.shape[1])
            for batch, _ in loader_of(dataset, 2, rank=r, world=2).batches()
        ]
        for r in range(2)
    ]
    assert [(a + b, length) for (a, length), (b, other) in zip(*parts) if length == other] == whole


def test_the_fullest_batch_is_known_for_each_length(dataset):
    loader = loader_of(dataset)
    most: dict[int, int] = {}
    for batch, _ in loader.batches(epochs=3):
        length = batch.input_ids.shape[1]
        most[length] = max(most.get(length, 0), batch.label_count)
    assert loader.most_labels(3) == most


def test_rows_that_fill_no_batch_go_into_the_next():
    dealt = LengthBuckets((4, 8, 16), np.array([2, 3, 4, 5, 16, 8, 1]), 2, None).batches(np.arange(7), 0)
    assert [(rows.tolist(), length) for rows, length in dealt] == [([0, 1], 4), ([2, 6], 4), ([3, 5], 8), ([4], 16)]


def test_another_batch_size_ends_a_run_in_buckets():
    before = DataLayout(50, 2, 4, (8, 16))
    assert convert_position(Position(1, 12), before, DataLayout(50, 2, 4, [8, 16])) == Position(1, 12)
    with pytest.raises(ValueError, match="batches of 2 rows in length_buckets"):
        convert_position(Position(1, 12), before, DataLayout(50, 1, 8, (8, 16)))
    with pytest.raises(ValueError, match="length_buckets"):
        convert_position(Position(1, 12), before, DataLayout(50, 2, 4))
