"""A control group (version 2) for one program: the kernel counts the memory and the processes of all it starts."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
END_SECONDS = 5.0


class ControlGroup:
    """One group, there from `make` to `remove`.

    Attributes:
        path: its folder; a process enters by writing 0 to ``cgroup.procs`` there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def make(
        cls, memory_bytes: int, processes: int, mount: Path = MOUNT, own: Path | None = None
    ) -> ControlGroup | None:
        """A new group with these limits; None where this user may make none (then memory is looked at from outside).

        Args:
            memory_bytes: of all processes, their shared memory and files in memory.
            processes: processes and threads at once.
            mount: where the hierarchy is.
            own: ``/proc/self/cgroup``.
        """
        parent = _parent(mount, own or Path("/proc/self/cgroup"))
        if parent is None:
            return None
        group = cls(parent / f"mindcoder-sandbox-{secrets.token_hex(8)}")
        try:
            group.path.mkdir()
            (group.path / "memory.max").write_text(f"{memory_bytes}\n")
            for name, value in (("memory.swap.max", 0), ("memory.oom.group", 1), ("pids.max", processes)):
                with contextlib.suppress(OSError):  # where the kernel has no swap, or the controller is not given on
                    (group.path / name).write_text(f"{value}\n")
            # a trial: moving a process needs leave of the groups above too
            with open(group.path / "cgroup.procs", "a"):
                return group
        except OSError:
            group.remove()
            return None

    def is_out_of_memory(self) -> bool:
        """Whether the kernel has ended it for its memory."""
        with contextlib.suppress(OSError, ValueError):
            lines = (self.path / "memory.events").read_text().splitlines()
            return any(line.startswith("oom_kill ") and int(line.split()[1]) > 0 for line in lines)
        return False

    def remove(self) -> None:
        """End what is left in it, and the group."""
        with contextlib.suppress(OSError):
            (self.path / "cgroup.kill").write_text("1\n")
        end = time.monotonic() + END_SECONDS
        while self.path.exists() and time.monotonic() < end:
            try:
                os.rmdir(self.path)
            except OSError:
                time.sleep(0.01)


def _parent(mount: Path, own: Path) -> Path | None:
    """The nearest group above this process whose children have the memory controller and that may be written to."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    name = next((line[3:] for line in lines if line.startswith("0::")), None)
    if name is None:
        return None
    here = mount / name.lstrip("/")
    for folder in (here, *here.parents):
        try:
            controllers = (folder / "cgroup.subtree_control").read_text(encoding="utf-8").split()
        except OSError:
            controllers = []
        if "memory" in controllers and os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK):
            return folder
        if folder == mount:
            break
    return None
