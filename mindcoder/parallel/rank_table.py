"""Rank tables: which device of which server has which rank (HCCL's JSON, version 1.0)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindcoder.errors import UserError


@dataclass(frozen=True)
class Device:
    """One card (or, on CPU, one process) of a server."""

    device_id: int
    device_ip: str
    rank_id: int


@dataclass(frozen=True)
class Server:
    """One machine; ``server_id`` is its address."""

    server_id: str
    devices: tuple[Device, ...]


@dataclass(frozen=True)
class RankTable:
    """All servers of a job. Ranks count from 0 without a gap, in the order of servers and devices."""

    servers: tuple[Server, ...]

    @property
    def world_size(self) -> int:
        """Processes of the whole job."""
        return sum(len(server.devices) for server in self.servers)

    def ranks(self, server: Server) -> list[int]:
        """Ranks that run on a server."""
        return [device.rank_id for device in server.devices]

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "version": "1.0",
            "server_count": str(len(self.servers)),
            "server_list": [
                {
                    "server_id": server.server_id,
                    "device": [
                        {"device_id": str(item.device_id), "device_ip": item.device_ip, "rank_id": str(item.rank_id)}
                        for item in server.devices
                    ],
                    "host_nic_ip": "reserve",
                }
                for server in self.servers
            ],
            "status": "completed",
        }


def read_rank_table(file: str | Path) -> RankTable:
    """Read and check a rank table.

    Raises:
        UserError: no such file, no rank table, ranks that repeat or leave a gap, a device twice on a server.
    """
    path = Path(file)
    if not path.is_file():
        raise UserError("no such rank table; tools/hccl_tools.py makes one", path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        servers = tuple(
            Server(
                str(item["server_id"]),
                tuple(
                    Device(int(device["device_id"]), str(device.get("device_ip", "")), int(device["rank_id"]))
                    for device in item["device"]
                ),
            )
            for item in data["server_list"]
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"is no rank table of version 1.0: {error!r}", path) from None
    table = RankTable(servers)
    ranks = [device.rank_id for server in servers for device in server.devices]
    if sorted(ranks) != list(range(len(ranks))) or not ranks:
        raise UserError(f"ranks must be 0 to {len(ranks) - 1}, each once; found {sorted(ranks)}", path)
    for server in servers:
        ids = [device.device_id for device in server.devices]
        if len(set(ids)) != len(ids):
            raise UserError(f"server {server.server_id} lists a device twice: {sorted(ids)}", path)
    addresses = [server.server_id for server in servers]
    if len(set(addresses)) != len(addresses):
        raise UserError(f"a server is listed twice: {', '.join(sorted(addresses))}", path)
    return table


def make_table(server_ip: str, device_ids: Sequence[int], device_ips: Sequence[str]) -> RankTable:
    """The table of one server."""
    devices = tuple(
        Device(device_id, address, rank) for rank, (device_id, address) in enumerate(zip(device_ids, device_ips))
    )
    return RankTable((Server(server_ip, devices),))


def merge_tables(tables: Iterable[RankTable]) -> RankTable:
    """Join servers in the order given; ranks are counted anew.

    Raises:
        UserError: a server stands in two tables.
    """
    servers: list[Server] = []
    first = 0
    for table in tables:
        for server in table.servers:
            if any(server.server_id == known.server_id for known in servers):
                raise UserError(f"server {server.server_id} stands in two of the tables")
            ordered = sorted(server.devices, key=lambda device: device.rank_id)
            devices = tuple(
                Device(device.device_id, device.device_ip, first + index) for index, device in enumerate(ordered)
            )
            servers.append(Server(server.server_id, devices))
            first += len(devices)
    return RankTable(tuple(servers))


def parse_range(text: str) -> range:
    """``[0,8]`` and ``[0,8)`` both mean 0 to 7, as the seeds' scripts read them; a plain ``8`` does too.

    Raises:
        UserError: neither form, or nothing in it.
    """
    match = re.fullmatch(r"\s*\[?\s*(\d+)\s*(?:[,-]\s*(\d+))?\s*[\])]?\s*", text)
    if match is None:
        raise UserError(f"expected a range such as [0,8] or [0,8), found {text!r}")
    first, last = (0, int(match[1])) if match[2] is None else (int(match[1]), int(match[2]))
    if last <= first:
        raise UserError(f"the range {text} holds nothing")
    return range(first, last)
