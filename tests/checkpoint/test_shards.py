"""A process of a tensor-parallel layout reads its shard of a tensor and not the rest."""

from __future__ import annotations

import numpy as np
import pytest

from mindcoder.checkpoint.layout import read_local
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.shards import Shard, merge_shards, save_shards, unsharded
from mindcoder.checkpoint.stored_tensor import StoredTensor, convert_dtype
from mindcoder.models.tensor_parallel import NoTensorParallel, shard_range

VALUES = np.arange(7 * 10, dtype=np.float32).reshape(7, 10)


class Rank(NoTensorParallel):
    def __init__(self, index: int, size: int) -> None:
        self.index, self.size = index, size


def saved(folder, axis: int | None, shards: int = 2) -> TensorPlan:
    """The plan of ``VALUES``, written whole or by several processes."""
    files = []
    for index in range(shards if axis is not None else 1):
        file = folder / f"model-rank_{index:04d}.safetensors"
        shard = unsharded(VALUES)
        if axis is not None:
            begin, end = shard_range(VALUES.shape[axis], index, shards)
            values = VALUES[begin:end] if axis == 0 else VALUES[:, begin:end]
            shard = Shard(values, VALUES.shape, axis, begin)
        another = {"another": unsharded(np.ones(3, np.float32))} if index == 0 else {}
        save_shards(file, {"weight": shard, **another})
        files.append(file)
    return merge_shards(files)["weight"]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("written", [None, 0, 1])
def test_shards_of_every_layout_are_those_of_the_whole(written, axis, size, tmp_path):
    plan = saved(tmp_path, written)
    for index in range(size):
        tp = Rank(index, size)
        np.testing.assert_array_equal(read_local(plan, tp, axis), tp.shard(VALUES, axis))
        np.testing.assert_array_equal(read_local(plan, tp, None), VALUES)


@pytest.mark.parametrize("written", [None, 0, 1])
def test_nothing_is_read_whole(written, tmp_path, monkeypatch):
    plan = saved(tmp_path, written)
    monkeypatch.setattr(StoredTensor, "read", lambda self: pytest.fail(f"{self.name} is read whole"))
    np.testing.assert_array_equal(read_local(plan, Rank(1, 2), 0), np.pad(VALUES[4:], [(0, 1), (0, 0)]))


def test_a_part_is_converted_and_rearranged_as_the_whole_is(tmp_path):
    plan = saved(tmp_path, None)
    half = plan.with_dtype("BF16")
    np.testing.assert_array_equal(half.read_part(1, 2, 5), convert_dtype(VALUES[:, 2:5], "F32", "BF16"))
    turned = TensorPlan("weight", (10, 7), "F32", plan.sources, lambda parts: parts[0].T)
    np.testing.assert_array_equal(turned.read_part(0, 3, 6), VALUES.T[3:6])
    longer = TensorPlan("weight", (9, 10), "F32", plan.sources)
    np.testing.assert_array_equal(longer.read_part(0, 6, 9), np.vstack([VALUES[6:], np.zeros((2, 10), np.float32)]))
