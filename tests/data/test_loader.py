"""Order, resumption and shards of batches."""

from __future__ import annotations

import numpy as np
import pytest

from mindcoder.data.encode import Example
from mindcoder.data.loader import BatchLoader, DataLayout, Position, convert_position
from mindcoder.data.mindrecord_file import write_dataset
from mindcoder.data.packing import pack
from mindcoder.errors import UserError

ROWS, LENGTH = 23, 16


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Rows whose first token is their number."""
    path = tmp_path_factory.mktemp("data") / "d.mindrecord"

    def rows():
        for number in range(ROWS):
            ids = np.array([number, 90, 91, 92], np.int32)
            yield pack([Example(ids, ids.copy(), False)], LENGTH, 99)

    write_dataset(rows(), path, LENGTH, 100)
    return str(path)


def numbers(loader, *arguments):
    return [batch.input_ids[:, 0].tolist() for batch, _ in loader.batches(*arguments)]


def test_every_row_once_an_epoch_in_an_order_of_its_own(dataset):
    loader = BatchLoader(dataset, 4, LENGTH, 100, seed=3, drop_remainder=False)
    epochs = numbers(loader, Position(), 2)
    assert len(epochs) == 2 * loader.batches_per_epoch == 12
    first, second = sum(epochs[:6], []), sum(epochs[6:], [])
    assert sorted(first[:ROWS]) == sorted(second[:ROWS]) == list(range(ROWS))
    assert first != second and first != list(range(ROWS))
    assert numbers(BatchLoader(dataset, 4, LENGTH, 100, seed=3, drop_remainder=False), Position(), 2) == epochs
    last = list(loader.batches(Position(0, 5), 1))[0][0]
    assert last.label_count == 3 * 3  # the fourth row only fills up


def test_any_position_continues_where_it_was(dataset):
    loader = BatchLoader(dataset, 4, LENGTH, 100, seed=3)
    whole = list(loader.batches(Position(), 3))
    for index, (_, position) in enumerate(whole):
        rest = numbers(loader, position, 3)
        assert rest == [batch.input_ids[:, 0].tolist() for batch, _ in whole[index + 1 :]]


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_each_global_batch(dataset, world):
    whole = numbers(BatchLoader(dataset, 4, LENGTH, 100, seed=1))
    parts = [
        numbers(BatchLoader(dataset, 4 // world, LENGTH, 100, seed=1, rank=rank, world=world)) for rank in range(world)
    ]
    assert [sum(shares, []) for shares in zip(*parts)] == whole


def test_labels_are_moved_to_where_they_are_predicted(dataset):
    batch, _ = next(BatchLoader(dataset, 2, LENGTH, 100, shuffle=False).batches())
    assert batch.labels[0].tolist() == [90, 91, 92] + [-100] * 13


def test_datasets_of_the_old_script_are_read(tmp_path):
    from mindspore.mindrecord import FileWriter

    path = str(tmp_path / "old.mindrecord")
    writer = FileWriter(path, 1)
    writer.add_schema({"input_ids": {"type": "int32", "shape": [-1]}, "labels": {"type": "int32", "shape": [-1]}})
    ids = np.arange(LENGTH + 1, dtype=np.int32)
    writer.write_raw_data([{"input_ids": ids, "labels": np.where(ids < 5, -100, ids).astype(np.int32)}])
    writer.commit()
    batch, _ = next(BatchLoader(path, 1, LENGTH, 100).batches())
    assert batch.input_ids[0].tolist() == list(range(LENGTH))
    assert batch.labels[0].tolist() == [-100] * 4 + list(range(5, LENGTH + 1))
    assert batch.position_ids[0].tolist() == list(range(LENGTH)) and not batch.document_ids.any()


def test_datasets_that_do_not_fit_are_refused(dataset, tmp_path):
    with pytest.raises(UserError, match="seq_length 16, the model has 32"):
        BatchLoader(dataset, 1, 32, 100)
    with pytest.raises(UserError, match="tokenizer of 100 ids, the model has vocab_size 99"):
        BatchLoader(dataset, 1, LENGTH, 99)
    with pytest.raises(UserError, match="fewer than one batch of 24"):
        BatchLoader(dataset, 24, LENGTH, 100)
    with pytest.raises(UserError, match="no such MindRecord"):
        BatchLoader(str(tmp_path / "none"), 1, LENGTH, 100)


def test_a_position_means_the_same_rows_on_another_layout():
    before = DataLayout(rows=50, batch_size=2, accumulate=4)
    assert convert_position(Position(1, 12), before, DataLayout(50, 1, 8)) == Position(1, 24)
    with pytest.raises(ValueError, match="batches of 2 and of 8 rows end epochs at other rows"):
        convert_position(Position(1, 12), DataLayout(52, 2, 4), DataLayout(52, 8, 1))
    with pytest.raises(ValueError, match="an update of 8 rows .* instead of 4"):
        convert_position(Position(1, 12), before, DataLayout(50, 2, 2))
    with pytest.raises(ValueError, match="rows 50 instead of 48"):
        convert_position(Position(), before, DataLayout(48, 2, 4))
