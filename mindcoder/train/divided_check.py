"""Finds the checkpoint to resume from, with the file hashing divided over all processes.

Rank 0 decides which checkpoint to try next and whether to accept it, as a single process would. To verify contents it
involves the other ranks: each hashes every n-th file, and an all-reduce tells all of them which files are damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from mindcoder.checkpoint.manifest import Entry, damaged_content, digest, read_manifest, read_state
from mindcoder.checkpoint.store import Checkpoint
from mindcoder.errors import UserError

NOTHING = 0.0  # from rank 0: start from scratch; step n is sent as n + 1 to be verified, as -(n + 1) once accepted


class Communicator(Protocol):
    """The part of `mindcoder.parallel.data_parallel.HostCollectives` that is used here."""

    def all_reduce(self, *values: float) -> list[float]:
        """The sums over all processes."""
        ...

    def broadcast(self, value: float) -> float:
        """The value of rank 0."""
        ...


class DividedCheck:
    """A `mindcoder.checkpoint.store.ContentCheck` for rank 0; the other ranks `follow`.

    Args:
        host_comm: collectives of the processes.
        rank, size: this rank and the number of ranks.
    """

    def __init__(self, host_comm: Communicator, rank: int, size: int) -> None:
        self.host_comm, self.rank, self.size = host_comm, rank, size

    def __call__(self, folder: Path, entries: Mapping[str, Entry]) -> None:
        """On rank 0: verify the contents together with the other ranks.

        Raises:
            UserError: names the first damaged file.
        """
        self.host_comm.broadcast(read_state(folder)["step"] + 1.0)
        self._compare(folder, entries)

    def settle(self, found: Checkpoint | None) -> None:
        """On rank 0: announce the accepted checkpoint."""
        self.host_comm.broadcast(NOTHING if found is None else -(found.step + 1.0))

    def follow(self, folder_of: Callable[[int], Path]) -> int | None:
        """On the other ranks: verify a part of each candidate until rank 0 has settled; returns the step, None for
        none.

        Args:
            folder_of: the folder of a step.
        """
        while (told := int(self.host_comm.broadcast(NOTHING))) > 0:
            folder = folder_of(told - 1)
            try:
                self._compare(folder, read_manifest(folder))
            except UserError:
                continue  # rank 0 has noticed it and tells the user
        return -told - 1 if told < 0 else None

    def _compare(self, folder: Path, entries: Mapping[str, Entry]) -> None:
        names = sorted(entries, key=lambda name: (-entries[name].nbytes, name))
        damaged = [0.0] * len(names)
        for index in range(self.rank, len(names), self.size):
            damaged[index] = float(digest(folder / names[index]) != entries[names[index]].sha256)
        for name, count in zip(names, self.host_comm.all_reduce(*damaged)):
            if count > 0:
                raise damaged_content(folder / name)
