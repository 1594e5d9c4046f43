"""A control group (version 2) for one program: the kernel accounts memory and processes of everything it starts."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
END_SECONDS = 5.0


class ControlGroup:
    """A control group that exists from `make` to `remove`.

    Attributes:
        path: its folder; a process enters by writing 0 to ``cgroup.procs`` there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def make(
        cls, memory_bytes: int, processes: int, mount: Path = MOUNT, own: Path | None = None
    ) -> ControlGroup | None:
        """Create a group with these limits; None if this user may not (memory is then polled from outside).

        Args:
            memory_bytes: of all processes, including shared memory and files in memory.
            processes: processes and threads at once.
            mount: mount point of the hierarchy.
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
                with contextlib.suppress(OSError):  # the kernel has no swap, or the controller is not delegated
                    (group.path / name).write_text(f"{value}\n")
            # A trial: moving a process requires permissions on the groups above too.
            with open(group.path / "cgroup.procs", "a"):
                return group
        except OSError:
            group.remove()
            return None

    def is_out_of_memory(self) -> bool:
        """Whether the kernel has killed it for its memory."""
        with contextlib.suppress(OSError, ValueError):
            lines = (self.path / "memory.events").read_text().splitlines()
            return any(line.startswith("oom_kill ") and int(line.split()[1]) > 0 for line in lines)
        return False

    def remove(self) -> None:
        """Kill what is left in the group, and delete it."""
        with contextlib.suppress(OSError):
            (self.path / "cgroup.kill").write_text("1\n")
        end = time.monotonic() + END_SECONDS
        while self.path.exists() and time.monotonic() < end:
            try:
                os.rmdir(self.path)
            except OSError:
                time.sleep(0.01)


def _parent(mount: Path, own: Path) -> Path | None:
    """The nearest ancestor group that is writable and whose children have the memory controller."""
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
