"""Comparing a checkpoint's contents is divided over the processes, and all of them come to the same end."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mindcoder.checkpoint.store import find_checkpoint, newest_checkpoint, save_checkpoint, step_folder
from mindcoder.errors import UserError
from mindcoder.train import divided_check
from mindcoder.train.divided_check import DividedCheck

RANKS = 3


class ThreadCollectives:
    """What `HostCollectives` does, between threads."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(RANKS, timeout=20)
        self.given: dict[int, tuple[float, ...]] = {}

    def all_reduce(self, *values: float) -> list[float]:
        self.given[threading.get_ident()] = values
        self.barrier.wait()
        sums = [sum(column) for column in zip(*self.given.values(), strict=True)]
        self.barrier.wait()
        return sums

    def of(self, rank: int):
        class OfRank:
            all_reduce = staticmethod(self.all_reduce)

            def broadcast(_, value: float) -> float:
                return self.all_reduce(value if rank == 0 else 0.0)[0]

        return OfRank()


@pytest.fixture
def run(tmp_path):
    """A run's folder with the steps 1 to 3."""
    for step in (1, 2, 3):
        values = {"weight": np.full((4, 5), step, np.float32)}
        states = {f"{moment}weight": values["weight"] for moment in ("adam_m.", "adam_v.")}
        save_checkpoint(tmp_path, {"step": step}, values, states, keep=3)
    return tmp_path


def look(location, search, monkeypatch):
    """What each rank ends with, and how many files each has read."""
    comm, read = ThreadCollectives(), [0] * RANKS
    plain, ranks = divided_check.digest, {}

    def digest(path):
        read[ranks[threading.get_ident()]] += 1
        return plain(path)

    monkeypatch.setattr(divided_check, "digest", digest)

    def rank_main(rank: int):
        ranks[threading.get_ident()] = rank
        check = DividedCheck(comm.of(rank), rank, RANKS)
        if rank > 0:
            return check.follow(lambda step: step_folder(location, step))
        try:
            found = search(location, check)
        except UserError as error:
            comm.barrier.abort()  # the launcher ends the other ranks
            return str(error)
        check.settle(found)
        return found and found.step

    with ThreadPoolExecutor(RANKS) as pool:
        futures = [pool.submit(rank_main, rank) for rank in range(RANKS)]
    return [future.exception() or future.result() for future in futures], read


def test_every_rank_reads_a_share_and_knows_the_step(run, monkeypatch):
    assert look(run, newest_checkpoint, monkeypatch) == ([3, 3, 3], [1, 1, 1])


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_a_file_that_one_rank_finds_damaged_is_passed_over_by_all(name, run, monkeypatch, caplog):
    damaged = run / "step_00000003" / name
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    steps, _ = look(run, newest_checkpoint, monkeypatch)
    assert steps == [2, 2, 2]
    assert f"{damaged}: damaged checkpoint: content differs from its manifest" in caplog.text


def test_what_one_rank_can_see_alone_does_not_call_the_others(run, monkeypatch):
    (run / "step_00000003" / "manifest.json").unlink()
    assert look(run, newest_checkpoint, monkeypatch)[0] == [2, 2, 2]


def test_nothing_to_resume_is_a_start_for_all(tmp_path, monkeypatch):
    assert look(tmp_path, newest_checkpoint, monkeypatch) == ([None, None, None], [0, 0, 0])


def test_a_step_folder_under_another_name(run, monkeypatch):
    best = (run / "step_00000002").rename(run / "best")
    assert look(best, find_checkpoint, monkeypatch) == ([2, 2, 2], [1, 1, 1])


def test_all_damaged_is_an_error_that_names_each(run, monkeypatch):
    for folder in run.iterdir():
        with open(folder / "model.safetensors", "r+b") as stream:
            stream.seek(-1, 2)
            stream.write(b"\x77")
    results, _ = look(run, newest_checkpoint, monkeypatch)
    assert "every checkpoint here is damaged (step_00000003/model.safetensors: " in results[0]
