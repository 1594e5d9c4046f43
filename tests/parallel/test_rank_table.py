"""Rank tables as the seeds' tools write and merge them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from mindcoder.errors import UserError
from mindcoder.parallel.rank_table import make_table, merge_tables, parse_range, read_rank_table


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


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda data: data["server_list"][0]["device"][1].update(rank_id="0"), "ranks must be 0 to 1, each once"),
        (lambda data: data["server_list"][0]["device"][1].update(device_id="0"), "lists a device twice"),
        (lambda data: data.pop("server_list"), "is no rank table of version 1.0"),
        (lambda data: data["server_list"][0]["device"][0].update(rank_id="first"), "is no rank table"),
    ],
)
def test_broken_tables_are_refused(change, expected, tmp_path):
    data = make_table("10.0.0.1", [0, 1], ["a", "b"]).as_dict()
    change(data)
    (tmp_path / "table.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=expected):
        read_rank_table(tmp_path / "table.json")


def test_merging_counts_ranks_anew():
    tables = [make_table(f"10.0.0.{number}", [4, 5], ["x", "y"]) for number in (1, 2)]
    merged = merge_tables(tables)
    assert [device.rank_id for server in merged.servers for device in server.devices] == [0, 1, 2, 3]
    assert [device.device_id for device in merged.servers[1].devices] == [4, 5]
