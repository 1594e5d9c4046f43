"""Environment of each rank: timeouts, rank table and how it reports completion."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from mindcoder.cli.guard import guarded
from mindcoder.launch.options import LaunchOptions, collective_timeouts
from mindcoder.launch.rank_table import make_table


def test_our_commands_say_that_they_are_done(tmp_path, monkeypatch):
    monkeypatch.setenv("MINDCODER_DONE_FILE", str(tmp_path / "done"))
    assert guarded(lambda: 2, False) == 2 and not (tmp_path / "done").exists()
    assert guarded(lambda: 0, False) == 0 and (tmp_path / "done").exists()


def test_what_the_user_set_wins_over_our_timeouts():
    assert collective_timeouts(True, {})["HCCL_CONNECT_TIMEOUT"] == "1800"
    assert collective_timeouts(True, {})["MS_TOPO_TIMEOUT"] == "1800"  # ranks on Ascend meet at the scheduler, too
    assert collective_timeouts(True, {"HCCL_CONNECT_TIMEOUT": "300"})["HCCL_CONNECT_TIMEOUT"] == "300"
    assert collective_timeouts(False, {"MS_NODE_TIMEOUT": "40"}) == {"MS_NODE_TIMEOUT": "40", "MS_TOPO_TIMEOUT": "1800"}


def test_a_table_hccl_could_not_read_is_written_anew(tmp_path):
    table = replace(make_table("127.0.0.1", [0], ["127.0.0.1"]), has_numbers=True)
    options = LaunchOptions(["true"], table, table.servers[0], tmp_path / "given.json", tmp_path, "127.0.0.1", 1)
    file = options.environment(table.servers[0].devices[0], "token")["RANK_TABLE_FILE"]
    assert json.loads(Path(file).read_text())["server_list"][0]["device"][0]["rank_id"] == "0"
