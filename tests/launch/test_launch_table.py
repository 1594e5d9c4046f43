"""Where the processes of a job come from, and what each finds in its environment; on machines made of folders."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from mindcoder.backend.cards import device_nodes, visible_cards
from mindcoder.cli.launch_table import add_table_flags, choose_table
from mindcoder.errors import UserError
from mindcoder.launch.options import LaunchOptions
from mindcoder.launch.rank_table import make_table


def machine(folder: Path, *cards: int) -> Path:
    """A root folder with the device nodes of an Ascend host."""
    (folder / "dev").mkdir()
    for name in ["davinci_manager", "hisi_hdc", "null", *(f"davinci{card}" for card in cards)]:
        (folder / "dev" / name).touch()
    return folder


def flags(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_table_flags(parser)
    arguments = parser.parse_args(given)
    arguments.log_dir = "unused"
    return arguments


def environments(table, file, **options) -> list[dict[str, str]]:
    made = LaunchOptions(["true"], table, table.servers[0], file, Path("log"), "127.0.0.1", 8118, **options)
    return [made.environment(device, "token") for device in table.servers[0].devices]


def test_cards_are_nodes_with_a_number(tmp_path):
    assert device_nodes(machine(tmp_path, 10, 2)) == [2, 10]
    assert device_nodes(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    "text, cards", [("1,3", [1, 3]), ("1, 2", [1]), ("", []), ("1,8,2", [1]), ("x", []), ("3,1", [3, 1])]
)
def test_cann_reads_visible_cards_up_to_the_first_that_is_none(tmp_path, text, cards):
    root = machine(tmp_path, *range(8))
    assert visible_cards({"ASCEND_RT_VISIBLE_DEVICES": text}, root) == cards
    assert visible_cards({}, root) == list(range(8))


def test_a_container_counts_its_cards_from_0(tmp_path):
    assert visible_cards({}, machine(tmp_path, 4, 5, 6, 7)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "given, cards, shown, visible",
    [
        ([], [0, 1, 2, 3], "cards 0 to 3", None),
        (["--world_size", "2"], [0, 1], "cards 0, 1", None),
        (["--devices", "[2,4]"], [2, 3], "cards 2, 3", "2,3"),
    ],
)
def test_without_a_table_the_cards_of_this_machine_are_taken(given, cards, shown, visible, tmp_path, capfd):
    table, file = choose_table(flags(*given), True, {}, machine(tmp_path, 0, 1, 2, 3))
    assert file is None and [device.device_id for device in table.servers[0].devices] == cards
    said = capfd.readouterr()
    assert f"no rank table: {shown}, coordinated by MindSpore's scheduler" in said.out + said.err
    for rank, variables in enumerate(environments(table, file, on_ascend=True)):
        assert (variables["RANK_ID"], variables["DEVICE_ID"]) == (str(rank), str(rank))
        assert variables["MS_ROLE"] == "MS_WORKER" and "RANK_TABLE_FILE" not in variables
        assert variables.get("ASCEND_RT_VISIBLE_DEVICES") == visible
        assert {"HCCL_CONNECT_TIMEOUT", "HCCL_EXEC_TIMEOUT", "MS_TOPO_TIMEOUT"} <= set(variables)


def test_cards_that_the_user_hides_stay_hidden(tmp_path):
    hidden = {"ASCEND_RT_VISIBLE_DEVICES": "2,3"}
    table, _ = choose_table(flags(), True, hidden, machine(tmp_path, 0, 1, 2, 3))
    assert [variables["ASCEND_RT_VISIBLE_DEVICES"] for variables in environments(table, None, on_ascend=True)] == [
        "2,3",
        "2,3",
    ]
    with pytest.raises(UserError, match="--devices: found 0, 1, and this machine has the cards 2, 3"):
        choose_table(flags("--devices", "[0,2]"), True, hidden, tmp_path)


@pytest.mark.parametrize(
    "given, message",
    [
        (["--world_size", "9"], "--world_size: found 0 to 8, and this machine has the cards 0, 1"),
        (["--devices", "[1,3]"], "--devices: found 1, 2, and this machine has the cards 0, 1"),
        (["--devices", "[0,2]", "--world_size", "3"], "--devices: holds 2 cards, --world_size says 3"),
        (["--device_range", "[0,2]"], "--device_range: needs a --rank_table"),
    ],
)
def test_cards_that_are_not_there_are_refused(given, message, tmp_path):
    with pytest.raises(UserError, match=message):
        choose_table(flags(*given), True, {}, machine(tmp_path, 0, 1))


def test_on_cpu_somebody_has_to_say_how_many(tmp_path):
    with pytest.raises(UserError, match="unknown number of processes.*--world_size N"):
        choose_table(flags(), False, {}, tmp_path)
    for many in (["--world_size", "99999999"], ["--devices", "[0,999999]"]):
        with pytest.raises(UserError, match=f"{many[0]}: found 99999.* at most 1024 are expected on one machine"):
            choose_table(flags(*many), False, {}, tmp_path)
    table, file = choose_table(flags("--world_size", "3"), False, {}, tmp_path)
    assert file is None and table.world_size == 3


def test_a_table_gives_each_rank_its_card_and_the_scheduler_too(tmp_path, monkeypatch):
    """With a rank table alone MindSpore 2.9.0 does not start on Ascend (tests/ascend/test_launch_ascend.py)."""
    monkeypatch.setenv("RANK_TABLE_FILE", "of-another-job")
    file = tmp_path / "table.json"
    file.write_text(json.dumps(make_table("127.0.0.1", [4, 5], ["10.0.0.4", "10.0.0.5"]).as_dict()))
    table, found = choose_table(flags("--rank_table", str(file)), True, {}, tmp_path)
    for rank, variables in enumerate(environments(table, found, on_ascend=True)):
        assert variables["RANK_TABLE_FILE"] == str(file) and variables["DEVICE_ID"] == str(4 + rank)
        assert variables["MS_ROLE"] == "MS_WORKER" and variables["MS_SCHED_PORT"] == "8118"
        assert "ASCEND_RT_VISIBLE_DEVICES" not in variables
    scheduler = LaunchOptions(["true"], table, table.servers[0], found, tmp_path, "127.0.0.1", 8118, on_ascend=True)
    assert scheduler.starts_scheduler
    assert "RANK_TABLE_FILE" not in scheduler.environment(None, "token")


def test_the_table_of_the_environment_is_taken_and_named(tmp_path, capfd):
    file = tmp_path / "jobstart_hccl.json"
    file.write_text(json.dumps(make_table("127.0.0.1", [0], ["127.0.0.1"]).as_dict()))
    _, found = choose_table(flags(), False, {"RANK_TABLE_FILE": str(tmp_path)}, tmp_path)
    said = capfd.readouterr()
    assert found == file and f"rank table: {tmp_path} (RANK_TABLE_FILE)" in said.out + said.err


def test_processes_of_this_machine_need_no_table(tmp_path):
    code = "import os; print(os.environ['RANK_ID'], os.environ['MS_WORKER_NUM'], 'RANK_TABLE_FILE' in os.environ)"
    script = tmp_path / "worker.py"
    script.write_text("import pathlib\n" + code + "\npathlib.Path(os.environ['MINDCODER_DONE_FILE']).touch()\n")
    arguments = ["launch", "--world_size", "2", "--command", f"{sys.executable} {script}", "--log_dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "mindcoder.cli.main", *arguments],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "no rank table: 2 processes on this machine" in done.stdout + done.stderr
    assert [(tmp_path / f"rank_{rank}.log").read_text().split() for rank in (0, 1)] == [
        [str(rank), "2", "False"] for rank in (0, 1)
    ]
