"""Elastic restart: continue with fewer data-parallel replicas after a device has failed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mindcoder.launch.rank_table import RankTable


@dataclass(frozen=True)
class Replicas:
    """Copies of the model that share each global batch.

    Attributes:
        data: how many there are.
        devices_each: tensor-parallel ranks times pipeline stages.
        batch_size: sequences of a micro batch of each.
    """

    data: int
    devices_each: int
    batch_size: int

    def without_one(self) -> Replicas | None:
        """The most replicas below this number that divide the same global batch; None when there is only one."""
        rows = self.data * self.batch_size
        for data in range(self.data - 1, 0, -1):
            if rows % data == 0:
                return Replicas(data, self.devices_each, rows // data)
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
