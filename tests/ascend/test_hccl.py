"""softcann's HCCL between processes, against numpy; and what it says where a card hangs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from softcann.environment import emulator_environment

pytestmark = pytest.mark.long  # on the emulator, whose build takes minutes

RANK = Path(__file__).with_name("hccl_rank.py")


def run(folder: Path, ranks: int, case: str, **more: str) -> list[str]:
    """What each rank of ``case`` printed; an empty text for one that was killed."""
    environment = emulator_environment(**more)
    command = [sys.executable, str(RANK), str(folder)]
    processes = [
        subprocess.Popen([*command, str(rank), str(ranks), case], env=environment, stdout=subprocess.PIPE, text=True)
        for rank in range(ranks)
    ]
    return [process.communicate(timeout=120)[0].strip() for process in processes]


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize(
    "case", ["check_reductions", "check_large", "check_rooted", "check_exchange", "check_pipeline"]
)
def test_collectives_equal_numpy(tmp_path: Path, ranks: int, case: str) -> None:
    assert run(tmp_path, ranks, case) == ["OK"] * ranks


def test_groups_of_a_rank_table(tmp_path: Path) -> None:
    assert run(tmp_path, 4, "check_table", TMPDIR=str(tmp_path)) == ["OK"] * 4
    assert [path for path in tmp_path.iterdir() if path.name.startswith("softcann-")] == []


def test_a_meeting_file_of_a_killed_run_is_no_hindrance(tmp_path: Path) -> None:
    assert run(tmp_path, 2, "killed_at_the_meeting", TMPDIR=str(tmp_path))[0] == ""
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("softcann-")] != []
    (tmp_path / "root_world").unlink()
    assert run(tmp_path, 2, "check_table", TMPDIR=str(tmp_path)) == ["OK"] * 2


@pytest.mark.parametrize(
    "case, first, second",
    [
        ("mismatch_order", "AllReduce of 8 float32, sum", "Barrier"),
        ("mismatch_count", "AllReduce of 8 float32, sum", "AllReduce of 9 float32, sum"),
        ("mismatch_dtype", "AllReduce of 8 float32, sum", "AllReduce of 8 float16, sum"),
        ("mismatch_operation", "AllReduce of 8 float32, sum", "AllReduce of 8 float32, maximum"),
        ("mismatch_root", "Broadcast of 8 float32, root 0", "Broadcast of 8 float32, root 1"),
    ],
)
def test_a_mismatch_names_both_ranks_and_calls(tmp_path: Path, case: str, first: str, second: str) -> None:
    for said in run(tmp_path, 2, case):
        assert "group of 2 ranks: rank 0 (process " in said
        assert f") is in {first}, and rank 1 (process " in said
        assert said.endswith(f") is in {second}")


def test_a_letter_of_another_size_names_both(tmp_path: Path) -> None:
    said = run(tmp_path, 2, "mismatch_letter")[1]
    assert "sent with Send of 5 float32, to rank 1" in said
    assert "receives with Recv of 6 float32, from rank 0" in said


def test_a_killed_rank_is_named_by_the_others(tmp_path: Path) -> None:
    said = run(tmp_path, 3, "killed")
    assert said[1] == ""
    for rank in (0, 2):
        assert "rank 1 (process " in said[rank]
        assert " has died while rank " in said[rank]


def test_groups_in_another_order_end_at_the_deadline(tmp_path: Path) -> None:
    said = run(tmp_path, 2, "late", SOFTCANN_HCCL_TIMEOUT="2")
    assert any("did not come to Barrier within 2" in line and "it was last in Barrier" in line for line in said)


def test_freed_memory_is_refused(tmp_path: Path) -> None:
    for said in run(tmp_path, 2, "freed_buffer"):
        assert "HcclBroadcast: buf: found the address 0x" in said
        assert said.endswith("of memory that was freed")


def test_buffers_in_place_and_buffers_that_overlap(tmp_path: Path) -> None:
    assert run(tmp_path, 2, "check_in_place") == ["OK"] * 2
    (tmp_path / "root_world").unlink()
    for said in run(tmp_path, 2, "overlapping"):
        assert "HcclAllReduce: recvBuf: found 8 elements that overlap those of sendBuf" in said


def test_nothing_is_left_in_shared_memory(tmp_path: Path) -> None:
    before = set(Path("/dev/shm").iterdir())
    run(tmp_path, 2, "killed")
    assert {path for path in set(Path("/dev/shm").iterdir()) - before if "softcann" in path.name} == set()
