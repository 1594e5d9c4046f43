"""Elastic restart: continue with fewer data-parallel replicas after a device has failed."""

from __future__ import annotations

from dataclasses import replace

from mindcoder.launch.rank_table import RankTable
from mindcoder.parallel_layout import ParallelLayout


def with_fewer_replicas(layout: ParallelLayout, batch_size: int) -> tuple[ParallelLayout, int] | None:
    """The same layout with fewer data-parallel replicas: as many as divide the same global batch.

    Args:
        batch_size: sequences per micro batch of a replica.

    Returns:
        The smaller layout and its batch size per replica; None if there is only one replica.
    """
    rows = layout.data * batch_size
    for data in range(layout.data - 1, 0, -1):
        if rows % data == 0:
            return replace(layout, data=data), rows // data
    return None


def healthy_table(table: RankTable, failed_rank: int, devices: int) -> RankTable:
    """A table of ``devices`` ranks, counted anew, without the device that had ``failed_rank``.

    Raises:
        ValueError: several servers (the others would have to be told), or too few devices are left.
    """
    if len(table.servers) != 1:
        raise ValueError("replicas can be given up on one server only")
    server = table.servers[0]
    left = [device for device in server.devices if device.rank_id != failed_rank][:devices]
    if len(left) < devices:
        raise ValueError(f"{len(left)} devices are left of {table.world_size}, {devices} are needed")
    renumbered = tuple(replace(device, rank_id=rank) for rank, device in enumerate(left))
    return replace(table, servers=(replace(server, devices=renumbered),))
