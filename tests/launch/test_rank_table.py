"""Rank tables: as the tools write and merge them, as platforms write them, and broken ones."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from mindcoder.errors import UserError
from mindcoder.launch.elastic import healthy_table
from mindcoder.launch.rank_table import (
    check_device_addresses,
    make_table,
    merge_tables,
    parse_range,
    read_rank_table,
)


def tool(name, *arguments):
    command = [sys.executable, str(REPOSITORY / "tools" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_tools_write_and_merge(tmp_path):
    for address in ("10.0.0.1", "10.0.0.2"):
        done = tool("hccl_tools.py", "--device_num", "[0,4)", "--server_ip", address, "--output_dir", tmp_path)
        assert done.returncode == 0, done.stderr
    files = [tmp_path / f"hccl_4p_0123_10.0.0.{number}.json" for number in (1, 2)]
    data = json.loads(files[0].read_text())
    assert data["version"] == "1.0" and data["server_count"] == "1" and data["status"] == "completed"
    assert data["server_list"][0]["device"][3] == {"device_id": "3", "device_ip": "10.0.0.1", "rank_id": "3"}
    assert tool("merge_hccl.py", *files, "--output_dir", tmp_path).returncode == 0
    table = read_rank_table(tmp_path / "hccl_2s_8p.json")
    assert table.world_size == 8 and table.ranks(table.servers[1]) == [4, 5, 6, 7]
    done = tool("merge_hccl.py", files[0], files[0], "--output_dir", tmp_path)
    assert done.returncode == 2 and "server 10.0.0.1 stands in two of the tables" in done.stderr


def test_both_range_forms_mean_the_same():
    assert parse_range("[0,8]") == parse_range("[0,8)") == parse_range("8") == range(8)
    assert parse_range("[8,16)") == range(8, 16)
    for text in ("[3,3)", "eight", "[0;8]"):
        with pytest.raises(UserError):
            parse_range(text)


@pytest.mark.parametrize("text", ["[0," + "9" * 5000 + ")", "[0,10000000)", "[\u0660,\u0663)"])
def test_a_range_is_bounded_before_anything_is_counted(text):
    with pytest.raises(UserError, match="expected a range such as"):
        parse_range(text)


def device(data, index=0, server=0):
    return data["server_list"][server]["device"][index]


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda data: device(data, 1).update(rank_id="0"), "rank_id 0 is given twice"),
        (lambda data: device(data, 1).update(rank_id="3"), "rank_id: ranks must be 0 to 1, each once; found 0, 3$"),
        (lambda data: device(data, 1).update(device_id="0"), r"lists a device twice: device_id \[0, 0\]"),
        (lambda data: data.pop("server_list"), "server_list is missing: this is not a rank table"),
        (lambda data: data.update(server_list=[]), "server_list is an empty list"),
        (lambda data: data.update(server_list={}), "server_list is an object, expected a list"),
        (lambda data: data.update(server_list=[7]), r"server_list\[0\] is 7, expected an object"),
        (lambda data: device(data).update(rank_id="first"), r"server_list\[0\].device\[0\].rank_id is 'first'"),
        (lambda data: device(data).update(rank_id=0.0), "rank_id is 0.0, expected a whole number from 0 on"),
        (lambda data: device(data).update(rank_id=True), "rank_id is true, expected a whole number"),
        (lambda data: device(data).update(rank_id="9" * 5000), "rank_id is '9999"),
        (lambda data: device(data).update(device_id="-1"), r"device\[0\].device_id is '-1', expected a whole"),
        (lambda data: device(data).update(device_id=-1), r"device\[0\].device_id is -1, expected a whole"),
        (lambda data: device(data, 1).pop("rank_id"), r"server_list\[0\].device\[1\].rank_id is missing"),
        (
            lambda data: device(data, 1).update(device_ip=7),
            r"device\[1\].device_ip is 7, expected the server's address",
        ),
        (lambda data: data["server_list"][0].update(device=[]), r"server_list\[0\].device is an empty list"),
        (lambda data: data["server_list"][0].pop("server_id"), r"server_list\[0\].server_id is missing"),
        (lambda data: data["server_list"][0].update(server_id="a b"), "server_id is 'a b', expected"),
        (lambda data: data["server_list"][0].update(server_id="x\ny"), r"server_id is 'x\\ny', expected"),
        (lambda data: data.update(status="initializing"), "status is 'initializing', expected 'completed'"),
        (lambda data: data.pop("status"), 'status is missing, expected "completed"'),
        (lambda data: data.update(version="3.0"), "version is '3.0', expected '1.0', or '1.2' for super pods"),
        (lambda data: data.update(version=["1.0"]), "version is a list, expected '1.0'"),
        (lambda data: data.pop("version"), "version is missing, expected '1.0'"),
        (lambda data: data.update(server_count="4"), "server_count is 4, but 1 server is listed"),
        (lambda data: data.update(server_count="-1"), "server_count is '-1', expected a whole number"),
        (lambda data: data.update(version="1.2"), r"device\[0\].super_device_id is missing"),
    ],
)
def test_broken_tables_are_refused_by_field(change, expected, tmp_path):
    data = make_table("10.0.0.1", [0, 1], ["a", "b"]).as_dict()
    change(data)
    (tmp_path / "table.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=expected) as caught:
        read_rank_table(tmp_path / "table.json")
    assert str(caught.value).startswith(f"{tmp_path / 'table.json'}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"", "bad JSON"),
        (b"not json", "bad JSON"),
        (b"[1, 2]", "holds a list, expected an object"),
        (b"\xff\xfe\x00", "UTF-16"),
        (b'{"server_list": ' + b"[" * 100000, "nested more than 64 deep"),
        (b'{"status": "completed", "status": "completed", "server_list": []}', "'status' occurs twice"),
    ],
)
def test_what_is_no_json_is_refused(content, expected, tmp_path):
    (tmp_path / "table.json").write_bytes(content)
    with pytest.raises(UserError, match=expected):
        read_rank_table(tmp_path / "table.json")


# Of every table: the servers' addresses and their ranks, or why it is refused.
REAL_TABLES = {
    "1.0_single_8p.json": [("10.0.0.1", range(8))],
    "1.0_two_servers.json": [("10.0.0.1", range(8)), ("10.0.0.2", range(8, 16))],
    "1.2_superpod.json": [("10.0.0.1", range(8))],
    "1.2_superpod_16_dev.json": [("10.0.0.1", range(8))],
    "ModelArts_v1.0_pods.json": [("172.16.0.5", range(8))],
    "devices_4-7_ranks_0-3.json": [("10.0.0.1", range(4))],
    "hccl_1p_0_10.0.0.9.json": [("10.0.0.9", range(1))],
    "hccl_3p_345_10.0.0.1.json": [("10.0.0.1", range(3))],
    "hccl_8p_01234567_10.0.0.1.json": [("10.0.0.1", range(8))],
    "ints_instead_of_strings.json": [("10.0.0.1", range(8))],
    "npu_mindx_1.0_with_server_list_empty.json": "server_list is an empty list|status is 'initializing'",
    "one_server_of_two.json": "found 8 to 15; this is one server's part: give every server the whole table",
    "seed_placeholder_xx.xx.xx.xx.json": r"server_list\[0\].server_id is the placeholder xx.xx.xx.xx",
    "server_count_says_4_one_listed.json": "server_count is 4, but 1 server is listed",
    "two_pods.json": "a server is listed twice: server_id 10.0.0.1; containers of one machine need a container_ip each",
}


def test_real_tables_are_read_or_refused_for_a_reason(shared_data):
    folder = shared_data / "originals" / "rank_tables"
    if not folder.is_dir():
        pytest.skip("the users' rank tables are absent")
    assert {file.name for file in folder.glob("*.json")} <= set(REAL_TABLES)
    for name, expected in REAL_TABLES.items():
        if isinstance(expected, str):
            with pytest.raises(UserError, match=expected):
                read_rank_table(folder / name)
            continue
        table = read_rank_table(folder / name)
        found = [(server.address, list(table.ranks(server))) for server in table.servers]
        assert found == [(address, list(ranks)) for address, ranks in expected], name
        assert table.has_numbers == (name == "ints_instead_of_strings.json")


def test_a_super_pod_keeps_its_numbers(tmp_path):
    data = make_table("node_0", [0, 1], ["10.1.0.1", "10.1.0.2"]).as_dict()
    data["server_list"][0]["host_ip"] = "172.16.0.100"
    for index in range(2):
        device(data, index)["super_device_id"] = str(37748736 + index)
    pods = [{"super_pod_id": "pod_7", "server_list": [{"server_id": "node_0"}]}]
    data.update(version="1.2", super_pod_list=pods)
    (tmp_path / "table.json").write_text(json.dumps(data))
    table = read_rank_table(tmp_path / "table.json")
    assert table.servers[0].address == "172.16.0.100"
    assert table.servers[0].title == "server 172.16.0.100 (ranks 0 to 1)"
    written = healthy_table(table, 0, 1).as_dict()
    assert written["version"] == "1.2" and written["super_pod_list"] == pods
    assert device(written) == {
        "device_id": "1", "device_ip": "10.1.0.2", "rank_id": "0", "super_device_id": "37748737",
    }  # fmt: skip
    data["super_pod_list"][0]["server_list"][0]["server_id"] = "node_1"
    (tmp_path / "table.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"super_pod_list\[0\].server_list\[0\].server_id is node_1, which"):
        read_rank_table(tmp_path / "table.json")
    with pytest.raises(UserError, match="tables of different versions cannot be joined: 1.0, 1.2"):
        merge_tables([table, make_table("10.0.0.2", [0], ["10.1.0.3"])])


def group_list(*instances, **more):
    """A table as ModelArts writes it: ``instances`` are (server, first device, devices)."""
    listed = [
        {
            "pod_name": f"job-trainjob-{index}",
            "server_id": server,
            "devices": [
                {"device_id": str(number), "device_ip": f"192.1.{index}.{number}"}
                for number in range(first, first + count)
            ],
        }
        for index, (server, first, count) in enumerate(instances)
    ]
    total = sum(count for _, _, count in instances)
    group = {"group_name": "job-trainjob", "device_count": str(total), "instance_count": str(len(listed))}
    return {"group_count": "1", "group_list": [{**group, "instance_list": listed, **more}], "status": "completed"}


def write(folder, data):
    (folder / "jobstart_hccl.json").write_text(json.dumps(data))
    return folder / "jobstart_hccl.json"


def test_modelarts_tables_are_read(tmp_path):
    file = write(tmp_path, group_list(("192.168.0.25", 0, 8), ("192.168.0.26", 4, 4)))
    for given in (file, tmp_path):  # ModelArts' RANK_TABLE_FILE is the folder
        table = read_rank_table(given)
        assert [table.ranks(server) for server in table.servers] == [list(range(8)), [8, 9, 10, 11]]
        assert table.servers[1].devices[0].device_id == 4 and table.servers[1].devices[0].device_ip == "192.1.1.4"
        assert table.as_dict()["server_list"][1]["server_id"] == "192.168.0.26"


def test_the_older_group_list_gives_each_rank_an_instance(tmp_path):
    data = group_list(("10.0.0.1", 0, 1), ("10.0.0.1", 1, 1))
    for instance, rank in zip(data["group_list"][0]["instance_list"], ("1", "0")):
        instance["rank_id"] = rank
    table = read_rank_table(write(tmp_path, data))
    assert [(item.device_id, item.rank_id) for item in table.servers[0].devices] == [(0, 1), (1, 0)]


@pytest.mark.parametrize(
    "data, expected",
    [
        (group_list(("a", 0, 8), device_count="4"), r"group_list\[0\].device_count is 4, but 8 devices are listed"),
        (group_list(("a", 0, 8), instance_count="2"), r"group_list\[0\].instance_count is 2, but 1 instance is listed"),
        (group_list(("a", 0, 2), ("a", 1, 2)), r"server a lists a device twice: device_id \[0, 1, 1, 2\]"),
        ({**group_list(("a", 0, 1)), "status": "initializing"}, "status is 'initializing', expected 'completed'"),
        ({"status": "completed", "group_list": []}, "group_list is an empty list"),
        (group_list(("a", 0, 0)), r"instance_list\[0\].devices is an empty list"),
    ],
)
def test_broken_modelarts_tables_are_refused(data, expected, tmp_path):
    with pytest.raises(UserError, match=expected):
        read_rank_table(write(tmp_path, data))


def test_hccl_needs_an_address_of_every_card_between_servers(tmp_path):
    tables = [make_table(f"10.0.0.{number}", [0], [f"192.1.0.{number}"]) for number in (1, 2)]
    check_device_addresses(merge_tables(tables), tmp_path)
    same = merge_tables([tables[0], make_table("10.0.0.2", [0], ["192.1.0.1"])])
    with pytest.raises(UserError, match="192.1.0.1 is given to device 0 of server 10.0.0.1 and device 0 of server"):
        check_device_addresses(same, tmp_path)


def test_a_server_has_no_million_devices(tmp_path):
    data = make_table("10.0.0.1", range(2000), ["x"] * 2000).as_dict()
    with pytest.raises(UserError, match="server 10.0.0.1 lists 2000 devices, at most 1024 are expected"):
        read_rank_table(write(tmp_path, data))


def test_parts_of_a_table_are_merged(tmp_path):
    files = []
    for number, first in ((1, 0), (2, 8)):
        data = make_table(f"10.0.0.{number}", [0, 1], ["x", "y"]).as_dict()
        for index in range(2):
            device(data, index)["rank_id"] = str(first + index)
        files.append(tmp_path / f"part_{number}.json")
        files[-1].write_text(json.dumps(data))
    merged = merge_tables(read_rank_table(file, is_part=True) for file in files)
    assert [merged.ranks(server) for server in merged.servers] == [[0, 1], [2, 3]]


def test_merging_counts_ranks_anew():
    tables = [make_table(f"10.0.0.{number}", [4, 5], ["x", "y"]) for number in (1, 2)]
    merged = merge_tables(tables)
    assert [device.rank_id for server in merged.servers for device in server.devices] == [0, 1, 2, 3]
    assert [device.device_id for device in merged.servers[1].devices] == [4, 5]


def test_the_tool_has_the_original_flags_and_default(tmp_path):
    """mindspore-lab/mindformers r1.1.0, mindformers/tools/hccl_tools.py: [0,8) of eight cards per node."""
    done = tool("hccl_tools.py", "--server_ip", "10.0.0.1", "--output_dir", tmp_path)
    assert done.returncode == 0 and (tmp_path / "hccl_8p_01234567_10.0.0.1.json").is_file(), done.stderr
    flags = ("--device_num_per_node", 16, "--device_num", "[8,16)", "--server_ip", "10.0.0.1", "--output_dir", tmp_path)
    assert tool("hccl_tools.py", *flags).returncode == 0
    refused = tool("hccl_tools.py", "--device_num", "[0,16)", "--output_dir", tmp_path)
    assert refused.returncode == 2 and "a server has cards 0 to 7 (--device_num_per_node)" in refused.stderr
