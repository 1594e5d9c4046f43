"""Fewer replicas on the devices that are left."""

from __future__ import annotations

import pytest

from mindcoder.launch.elastic import healthy_table, with_fewer_replicas
from mindcoder.launch.rank_table import make_table, merge_tables
from mindcoder.parallel_layout import ParallelLayout


def test_the_global_batch_stays():
    assert with_fewer_replicas(ParallelLayout(4, 2), 3) == (ParallelLayout(3, 2), 4)
    assert with_fewer_replicas(ParallelLayout(4), 1) == (ParallelLayout(2), 2)
    assert with_fewer_replicas(ParallelLayout(1, 4, 2), 4) is None


def test_the_failed_device_is_left_out_and_ranks_count_anew():
    table = make_table("10.0.0.1", range(8), [f"192.168.0.{index}" for index in range(8)])
    smaller = healthy_table(table, 2, 4)
    devices = smaller.servers[0].devices
    assert [device.device_id for device in devices] == [0, 1, 3, 4]
    assert [device.rank_id for device in devices] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="7 devices are left of 8, 8 are needed"):
        healthy_table(table, 2, 8)
    with pytest.raises(ValueError, match="one server only"):
        healthy_table(merge_tables([table, make_table("10.0.0.2", [0], ["192.168.1.0"])]), 0, 2)
