"""Rank tables: which device of which server has which rank.

HCCL reads two forms of JSON (hiascend.com, HCCL user guide, "rank table"): a ``server_list`` of version 1.0, or 1.2
with a ``super_pod_list`` for super pods; and the older ``group_list``, which ModelArts writes as
``jobstart_hccl.json`` (support.huaweicloud.com, ModelArts, "Ascend HCCL RANK_TABLE_FILE").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mindcoder.errors import UserError
from mindcoder.files import read_json_object
from mindcoder.launch.rank_table_fields import Fields, shown

SERVERS, SUPER_PODS = "1.0", "1.2"  # versions of a table with a server_list
COMPLETED = "completed"
TABLE_LIMIT = 16 << 20  # bytes; a device takes about 150
MOST_DEVICES = 1024  # of a server; each is a process
MODELARTS_FILE = "jobstart_hccl.json"  # ModelArts' RANK_TABLE_FILE is the folder that holds it


@dataclass(frozen=True)
class Device:
    """One card (or, on CPU, one process) of a server.

    Attributes:
        device_id: number of the card on its server.
        device_ip: address of the card's own network interface; empty where the file gives none.
        rank_id: of the process that uses it.
        super_device_id: number of the card in its super pod.
    """

    device_id: int
    device_ip: str
    rank_id: int
    super_device_id: int | None = None


@dataclass(frozen=True)
class Server:
    """One machine, or one container of it.

    Attributes:
        server_id: its identifier in the table, usually its address.
        devices: its cards.
        host_address: its address, if ``server_id`` is something else.
        super_pod: the super pod it belongs to.
    """

    server_id: str
    devices: tuple[Device, ...]
    host_address: str = ""
    super_pod: str | None = None

    @property
    def address(self) -> str:
        """Address of its launcher and of MindSpore's scheduler."""
        return self.host_address or self.server_id

    @property
    def title(self) -> str:
        """For messages: the address and the ranks."""
        ranks = sorted(device.rank_id for device in self.devices)
        shown = f"ranks {ranks[0]} to {ranks[-1]}" if len(ranks) > 1 else f"rank {ranks[0]}"
        return f"server {self.address} ({shown})"


@dataclass(frozen=True)
class RankTable:
    """All servers of a job. Ranks count from 0 without a gap, in the order of servers and devices.

    Attributes:
        servers: the one with rank 0 first.
        version: `SUPER_PODS` where the servers belong to super pods.
        has_numbers: whether the file has JSON numbers where HCCL wants strings, so that it must be rewritten with
            `as_dict`.
    """

    servers: tuple[Server, ...]
    version: str = SERVERS
    has_numbers: bool = False

    @property
    def world_size(self) -> int:
        """Processes of the whole job."""
        return sum(len(server.devices) for server in self.servers)

    def ranks(self, server: Server) -> list[int]:
        """Ranks that run on a server."""
        return [device.rank_id for device in server.devices]

    def as_dict(self) -> dict[str, Any]:
        """The JSON form with a ``server_list``."""
        values: dict[str, Any] = {
            "version": self.version,
            "server_count": str(len(self.servers)),
            "server_list": [_server_dict(server) for server in self.servers],
            "status": COMPLETED,
        }
        if self.version == SUPER_PODS:
            pods: dict[str, list[dict[str, str]]] = {}
            for server in self.servers:
                pods.setdefault(server.super_pod or "0", []).append({"server_id": server.server_id})
            values["super_pod_list"] = [{"super_pod_id": pod, "server_list": ids} for pod, ids in pods.items()]
        return values


def _server_dict(server: Server) -> dict[str, Any]:
    devices = []
    for item in server.devices:
        device = {"device_id": str(item.device_id), "device_ip": item.device_ip, "rank_id": str(item.rank_id)}
        if item.super_device_id is not None:
            device["super_device_id"] = str(item.super_device_id)
        devices.append(device)
    values: dict[str, Any] = {"server_id": server.server_id, "device": devices, "host_nic_ip": "reserve"}
    if server.host_address:
        values["container_ip"] = server.host_address
    return values


def find_table(file: str | Path) -> Path:
    """The rank table's file, where ModelArts' folder may have been given."""
    path = Path(file)
    return path / MODELARTS_FILE if (path / MODELARTS_FILE).is_file() else path


def read_rank_table(file: str | Path, is_part: bool = False) -> RankTable:
    """Read and check a rank table.

    Args:
        file: the table, or ModelArts' folder with ``jobstart_hccl.json``.
        is_part: one server's part of a table, to be merged: its ranks may start above 0.

    Raises:
        UserError: no such file, or no rank table; names the field, what it is and what is expected.
    """
    path = find_table(file)
    if not path.exists():
        raise UserError("no such rank table; tools/hccl_tools.py makes one", path)
    whole = Fields(path, "", read_json_object(path, TABLE_LIMIT))
    if not whole.has("server_list") and not whole.has("group_list"):
        raise whole.fail("server_list", "is missing: this is not a rank table, expected a server_list or a group_list")
    status = whole.text("status", f'"{COMPLETED}"')
    if status != COMPLETED:
        raise whole.fail("status", f"is {status!r}, expected '{COMPLETED}': the platform has not filled the table yet")
    table = _read_server_list(whole) if whole.has("server_list") else _read_group_list(whole)
    _check_ranks(table, path, is_part)
    _check_servers(table, whole)
    ordered = sorted(table.servers, key=lambda server: min(device.rank_id for device in server.devices))
    return replace(table, servers=tuple(ordered))


def _read_server_list(whole: Fields) -> RankTable:
    version = str(whole.values.get("version"))
    if version not in (SERVERS, SUPER_PODS):
        found = f"is {shown(whole.values['version'])}" if whole.has("version") else "is missing"
        raise whole.fail("version", f"{found}, expected '{SERVERS}', or '{SUPER_PODS}' for super pods")
    servers, has_numbers = [], False
    for item in whole.items("server_list"):
        fields = [device.values.get(key) for device in item.items("device") for key in ("device_id", "rank_id")]
        has_numbers |= any(isinstance(value, int) for value in fields)
        devices = tuple(_read_device(device, version == SUPER_PODS) for device in item.items("device"))
        hosts = [key for key in ("container_ip", "server_ip", "host_ip") if item.has(key)]
        host = item.address(hosts[0]) if hosts else ""
        servers.append(Server(item.address("server_id"), devices, host))
    whole.check_count("server_count", len(servers), "servers are" if len(servers) > 1 else "server is")
    if version == SUPER_PODS:
        servers = _with_super_pods(servers, whole)
    return RankTable(tuple(servers), version, has_numbers)


def _read_device(item: Fields, in_super_pod: bool) -> Device:
    address = item.address("device_ip") if item.values.get("device_ip") not in (None, "") else ""
    number = item.number("super_device_id") if in_super_pod else None
    return Device(item.number("device_id"), address, item.number("rank_id"), number)


def _with_super_pods(servers: list[Server], whole: Fields) -> list[Server]:
    pods: dict[str, str] = {}
    known = {server.server_id for server in servers}
    for pod in whole.items("super_pod_list"):
        for item in pod.items("server_list"):
            server = item.address("server_id")
            if server not in known:
                raise item.fail("server_id", f"is {server}, which server_list does not have")
            if server in pods:
                raise item.fail("server_id", f"is {server}, which another super pod has")
            pods[server] = pod.name("super_pod_id", "the number or name of the super pod")
    for server_id in sorted(known - set(pods)):
        raise whole.fail("super_pod_list", f"does not have server {server_id}")
    return [replace(server, super_pod=pods[server.server_id]) for server in servers]


def _read_group_list(whole: Fields) -> RankTable:
    """Ranks follow the order of the instances where the file gives none."""
    groups = whole.items("group_list")
    whole.check_count("group_count", len(groups), "groups are" if len(groups) > 1 else "group is")
    found: dict[tuple[str, str], list[Device]] = {}  # by server_id and the container's address
    rank = 0
    for group in groups:
        instances = group.items("instance_list")
        group.check_count("instance_count", len(instances), "instances are" if len(instances) > 1 else "instance is")
        first = rank
        for instance in instances:
            devices = instance.items("devices")
            if instance.has("rank_id") and len(devices) != 1:
                raise instance.fail("rank_id", f"is one rank for {len(devices)} devices")
            name = instance.address("server_id"), ""
            if instance.has("container_ip"):
                name = name[0], instance.address("container_ip")
            for item in devices:
                number = next((part.number("rank_id") for part in (item, instance) if part.has("rank_id")), rank)
                address = item.address("device_ip") if item.values.get("device_ip") not in (None, "") else ""
                found.setdefault(name, []).append(Device(item.number("device_id"), address, number))
                rank += 1
        for key in ("device_count", "device_num"):
            group.check_count(key, rank - first, "devices are" if rank - first > 1 else "device is")
    servers = tuple(Server(name, tuple(devices), host) for (name, host), devices in found.items())
    whole.check_count("server_count", len(servers), "servers are" if len(servers) > 1 else "server is")
    return RankTable(servers)


def _check_ranks(table: RankTable, path: Path, is_part: bool) -> None:
    ranks = sorted(device.rank_id for server in table.servers for device in server.devices)
    twice = sorted({rank for rank, after in zip(ranks, ranks[1:]) if rank == after})
    if twice:
        raise UserError(f"rank_id {twice[0]} is given twice; ranks must be 0 to {len(ranks) - 1}, each once", path)
    if is_part or ranks == list(range(len(ranks))):
        return
    hint = ""
    if ranks == list(range(ranks[0], ranks[0] + len(ranks))):
        hint = "; this is one server's part: give every server the whole table (tools/merge_hccl.py makes it)"
    found = f"{ranks[0]} to {ranks[-1]}" if hint else ", ".join(map(str, ranks[:16])) + ("…" if ranks[16:] else "")
    raise UserError(f"rank_id: ranks must be 0 to {len(ranks) - 1}, each once; found {found}{hint}", path)


def _check_servers(table: RankTable, whole: Fields) -> None:
    for server in table.servers:
        if len(server.devices) > MOST_DEVICES:
            raise UserError(
                f"server {server.server_id} lists {len(server.devices)} devices, at most {MOST_DEVICES} are expected",
                whole.file,
            )
        ids = sorted(device.device_id for device in server.devices)
        if len(set(ids)) != len(ids):
            raise UserError(f"server {server.server_id} lists a device twice: device_id {ids}", whole.file)
    for key, names in (
        ("server_id", [server.server_id for server in table.servers]),
        ("container_ip", [server.host_address for server in table.servers if server.host_address]),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        # Containers of one machine have its server_id and an address each.
        if twice and not (key == "server_id" and all(server.host_address for server in table.servers)):
            more = "; containers of one machine need a container_ip each" if key == "server_id" else ""
            raise UserError(f"a server is listed twice: {key} {', '.join(twice)}{more}", whole.file)


def check_device_addresses(table: RankTable, file: Path) -> None:
    """What HCCL needs between servers: every card's own address.

    Raises:
        UserError: a card has none, or two have the same.
    """
    if len(table.servers) == 1:
        return
    seen: dict[str, str] = {}
    for server in table.servers:
        for device in server.devices:
            name = f"device {device.device_id} of server {server.server_id}"
            if not device.device_ip:
                raise UserError(f"device_ip of {name} is missing; HCCL needs it between servers", file)
            if device.device_ip in seen:
                raise UserError(f"device_ip {device.device_ip} is given to {seen[device.device_ip]} and {name}", file)
            seen[device.device_ip] = name


def make_table(server_ip: str, device_ids: Sequence[int], device_ips: Sequence[str]) -> RankTable:
    """The table of one server."""
    devices = tuple(
        Device(device_id, address, rank) for rank, (device_id, address) in enumerate(zip(device_ids, device_ips))
    )
    return RankTable((Server(server_ip, devices),))


def choose_devices(table: RankTable, device_ids: Sequence[int]) -> RankTable:
    """The table of some cards of its only server; ranks are counted from 0, in the order of the cards.

    This is how the original run_singlenode.sh reads ``[4,8] 4`` (mindspore-lab/mindformers r1.0, research).

    Raises:
        ValueError: there are several servers, or the server lacks one of the cards.
    """
    if len(table.servers) != 1:
        raise ValueError(f"lists {len(table.servers)} servers: cards are chosen on one; run_multinode.sh takes ranks")
    (server,) = table.servers
    known = {device.device_id: device for device in server.devices}
    missing = [index for index in device_ids if index not in known]
    if missing:
        raise ValueError(f"server {server.server_id} has the cards {sorted(known)}, not {missing}")
    if len(device_ids) == len(known):
        return table
    devices = tuple(replace(known[index], rank_id=rank) for rank, index in enumerate(device_ids))
    return replace(table, servers=(replace(server, devices=devices),))


def merge_tables(tables: Iterable[RankTable]) -> RankTable:
    """Join servers in the order given; ranks are counted anew.

    Raises:
        UserError: a server stands in two tables, or the tables are of different versions.
    """
    servers: list[Server] = []
    versions: list[str] = []
    first = 0
    for table in tables:
        versions.append(table.version)
        for server in table.servers:
            if any(server.address == known.address for known in servers):
                raise UserError(f"server {server.address} stands in two of the tables")
            ordered = sorted(server.devices, key=lambda device: device.rank_id)
            devices = tuple(replace(device, rank_id=first + index) for index, device in enumerate(ordered))
            servers.append(replace(server, devices=devices))
            first += len(devices)
    if len(set(versions)) > 1:
        raise UserError(f"tables of different versions cannot be joined: {', '.join(sorted(set(versions)))}")
    return RankTable(tuple(servers), versions[0])


def parse_range(text: str) -> range:
    """``[0,8]`` and ``[0,8)`` both mean 0 to 7, as the original MindFormers scripts read them; a plain ``8`` does too.

    Raises:
        UserError: neither form, or nothing in it.
    """
    match = re.fullmatch(r"\s*\[?\s*([0-9]{1,6})\s*(?:[,-]\s*([0-9]{1,6}))?\s*[\])]?\s*", text)
    if match is None:
        raise UserError(f"expected a range such as [0,8] or [0,8), found {text!r}")
    first, last = (0, int(match[1])) if match[2] is None else (int(match[1]), int(match[2]))
    if last <= first:
        raise UserError(f"the range {text} holds nothing")
    return range(first, last)
