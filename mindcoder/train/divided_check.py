"""Looking for the checkpoint to resume from, with the comparing of its files' contents divided over all processes.

Rank 0 decides which checkpoint is tried next and whether it is taken, as one process would. For the contents it calls
on the others: each hashes every n-th file, and the sum of what they found tells all of them which files are damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from mindcoder.checkpoint.manifest import Entry, damaged_content, digest, read_manifest, read_state
from mindcoder.checkpoint.store import Checkpoint
from mindcoder.errors import UserError

NOTHING = 0.0  # rank 0 says: start from the beginning; a step n is n + 1 to be checked, -(n + 1) once it is taken


class Sums(Protocol):
    """What is needed of `mindcoder.parallel.data_parallel.Agreement`."""

    def total(self, *values: float) -> list[float]:
        """The sums over all processes."""
        ...

    def from_first(self, value: float) -> float:
        """Rank 0's number."""
        ...


class DividedCheck:
    """A `mindcoder.checkpoint.store.ContentCheck` for rank 0; the other ranks `follow`.

    Args:
        agreement: between the processes.
        rank, size: this process and how many there are.
    """

    def __init__(self, agreement: Sums, rank: int, size: int) -> None:
        self.agreement, self.rank, self.size = agreement, rank, size

    def __call__(self, folder: Path, entries: Mapping[str, Entry]) -> None:
        """On rank 0: call on the others and compare.

        Raises:
            UserError: names the first file that is damaged.
        """
        self.agreement.from_first(read_state(folder)["step"] + 1.0)
        self._compare(folder, entries)

    def settle(self, found: Checkpoint | None) -> None:
        """On rank 0: say which checkpoint is taken."""
        self.agreement.from_first(NOTHING if found is None else -(found.step + 1.0))

    def follow(self, folder_of: Callable[[int], Path]) -> int | None:
        """On the other ranks: do a share until rank 0 has settled; gives the step, None for a start.

        Args:
            folder_of: the folder of a step.
        """
        while (told := int(self.agreement.from_first(NOTHING))) > 0:
            folder = folder_of(told - 1)
            try:
                self._compare(folder, read_manifest(folder))
            except UserError:
                continue  # rank 0 knows, and tells the user
        return -told - 1 if told < 0 else None

    def _compare(self, folder: Path, entries: Mapping[str, Entry]) -> None:
        names = sorted(entries, key=lambda name: (-entries[name].nbytes, name))
        damaged = [0.0] * len(names)
        for index in range(self.rank, len(names), self.size):
            damaged[index] = float(digest(folder / names[index]) != entries[names[index]].sha256)
        for name, count in zip(names, self.agreement.total(*damaged)):
            if count > 0:
                raise damaged_content(folder / name)
