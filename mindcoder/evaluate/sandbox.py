"""Sandbox for generated code: one process per program, isolated from files, network and other processes, with
limits.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mindcoder.errors import UserError
from mindcoder.evaluate.sandbox_cgroup import ControlGroup
from mindcoder.evaluate.sandbox_watch import Tree

log = logging.getLogger(__name__)

Isolation = Literal["namespaces", "limits"]
CHILD = Path(__file__).parent / "sandbox_child.py"
SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/lib32", "/bin")
LONGEST_PROGRAM, LONGEST_VERDICT = 4 * 2**20, 64 * 2**10  # bytes
# for starting and stopping the child on a busy machine; the program's own time is limited separately
SPARE_SECONDS = 40.0
END_SECONDS = 10.0  # for a killed child to exit, and for a verdict after the program's time limit
LOOK_SECONDS = 0.2  # polling interval for whether the child is stopped
STOPPED = json.dumps({"error": "stopped the process that watches it"}).encode()
BROKEN = "sandbox: "  # prefix of the reason if the sandbox failed rather than the program
HARMLESS = "import heapq, math\nassert sum(range(4)) == math.sqrt(36) == heapq.nlargest(1, [6])[0]"


@dataclass(frozen=True)
class SandboxOptions:
    """Limits and isolation of a program.

    Attributes:
        seconds: of wall-clock time (from its first line), and of CPU time.
        memory_bytes: of address space per process, and of all processes of the program together.
        file_bytes: per file; /tmp and /dev/shm together hold four times as much.
        processes: maximum number of processes and threads at once.
        isolation: ``namespaces``: own root, network, processes, users and a system call filter. ``limits``: resource
            limits only, no namespaces.
    """

    seconds: float = 10.0
    memory_bytes: int = 4 * 2**30
    file_bytes: int = 16 * 2**20
    processes: int = 32
    isolation: Isolation = "namespaces"


@dataclass(frozen=True)
class Outcome:
    """Whether a program ran to its end, and if not, what stopped it."""

    passed: bool
    reason: str = ""

    @property
    def is_broken(self) -> bool:
        """Whether the sandbox failed, so that the outcome says nothing about the program."""
        return self.reason.startswith(BROKEN)


class Sandbox:
    """Runs programs; call `check` before the first one.

    What it does not do: hide the machine's kernel, keep a program from changing what its own tests mean (replaced
    builtins, objects equal to everything), or resist code that searches the memory of the program's own process
    for the secret that stands for "passed": native code, ``ctypes``, hand-made bytecode, ``/proc/self/mem`` where
    ``limits`` leaves it visible.
    """

    def __init__(self, options: SandboxOptions) -> None:
        self.options = options

    def check(self) -> None:
        """Run a harmless program and one that must fail.

        Raises:
            UserError: this machine has no unprivileged user namespaces, or the sandbox does not hold.
        """
        outcome = self.run(HARMLESS)
        if not outcome.passed:
            raise UserError(
                f"the sandbox does not work here ({outcome.reason.removeprefix(BROKEN)}); it needs user namespaces "
                "(in a container: --security-opt seccomp=unconfined; on a host: sysctl user.max_user_namespaces and "
                "kernel.apparmor_restrict_unprivileged_userns). --sandbox limits runs generated code without them, "
                "with limits only: on a machine that you can lose"
            )
        if self.run("import os; os._exit(0)").passed:
            raise UserError("the sandbox reports an early exit as success; nothing is run")

    def run(self, program: str) -> Outcome:
        """Run one program: it passes if it runs to its end without an exception.

        Whatever the program does, and whatever its process answers, only its own outcome is affected. If the
        sandbox itself fails it is tried once more.
        """
        outcome = self._try(program)
        return self._try(program) if outcome.is_broken else outcome

    def _try(self, program: str) -> Outcome:
        try:
            return self._run(program)
        except OSError as error:  # no process, no memory, or no space for its folder
            return Outcome(False, f"{BROKEN}{error}")

    def _run(self, program: str) -> Outcome:
        options = self.options
        if len(program) > LONGEST_PROGRAM:
            return Outcome(False, f"the program has {len(program)} characters, {LONGEST_PROGRAM} at most are run")
        group = ControlGroup.make(options.memory_bytes, options.processes + 8)  # including the watcher processes
        try:
            with _folder() as root:
                text = self._start(json.dumps(self._order(program, root, group)).encode(), root)
            if group is not None and group.is_out_of_memory():
                return Outcome(False, _memory(options))
        finally:
            if group is not None:
                group.remove()
        return self._outcome(text)

    def _order(self, program: str, root: str, group: ControlGroup | None) -> dict[str, object]:
        options = self.options
        return {
            "program": program,
            "namespaces": options.isolation == "namespaces",
            "root": root,
            "visible": visible_folders(),
            "seconds": options.seconds,
            "memory_bytes": options.memory_bytes,
            "disk_bytes": 4 * options.file_bytes,
            "processes": options.processes,
            "cgroup": None if group is None else str(group.path),
            "limits": {
                "CPU": max(int(options.seconds) + 1, 1),
                "AS": options.memory_bytes,
                "FSIZE": options.file_bytes,
                "NOFILE": 64,
                "NPROC": options.processes,
                "CORE": 0,
                "MEMLOCK": 0,
                "MSGQUEUE": 0,
                "RTPRIO": 0,
            },
        }

    def _outcome(self, text: bytes | None) -> Outcome:
        """Parse the child's answer; an invalid answer fails this program."""
        timeout = Outcome(False, f"timed out after {self.options.seconds:g} s")
        if text is None:
            return timeout
        if len(text) > LONGEST_VERDICT:
            return Outcome(False, "no verdict: more than a verdict")
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):  # not JSON, not UTF-8, or nested too deeply
            return Outcome(False, "no verdict")
        if not isinstance(answer, dict):
            return Outcome(False, "no verdict")
        if "broken" in answer:
            return Outcome(False, f"{BROKEN}{str(answer['broken'])[:300]}")
        if answer.get("timeout") is True:
            return timeout
        return Outcome(answer.get("passed") is True, str(answer.get("error", ""))[:300])

    def _start(self, order: bytes, folder: str) -> bytes | None:
        """The child's answer, at most `LONGEST_VERDICT` and one byte; None on timeout."""
        with tempfile.TemporaryFile() as given:
            given.write(order)
            given.seek(0)
            process = subprocess.Popen(
                [sys.executable, "-I", str(CHILD)],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env={
                    "PATH": "/usr/bin:/bin",
                    "LANG": "C.UTF-8",
                    "HOME": "/tmp",
                    "OMP_NUM_THREADS": "1",
                },
                start_new_session=True,
            )
            with _killed_at_the_end(process):
                return _read(process, self.options.seconds)

    def run_all(self, programs: Sequence[str], workers: int | None = None) -> Iterator[Outcome]:
        """Outcomes in the order of the programs, several running concurrently."""
        with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
            yield from pool.map(self.run, programs)


def _memory(options: SandboxOptions) -> str:
    return f"used more than {options.memory_bytes / 2**30:g} GiB of memory"


def _read(process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """The output up to its end or one byte too many; None on timeout.

    A program of the same user (``limits``) can stop or slow down the child: time is limited here too, and a stopped
    child is not waited for.

    Args:
        process: the child, which writes a line break when the program begins.
        seconds: time limit of the program.
    """
    assert process.stdout is not None
    end, size = time.monotonic() + seconds + SPARE_SECONDS, 0
    parts: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while size <= LONGEST_VERDICT:
            left = end - time.monotonic()
            if not selector.select(max(min(left, LOOK_SECONDS), 0)):
                if left <= 0:
                    return None
                if _is_stopped(process.pid):
                    return STOPPED
                continue
            part = os.read(process.stdout.fileno(), LONGEST_VERDICT)
            if not part:
                break
            if not parts:
                end = min(end, time.monotonic() + seconds + END_SECONDS)
            parts.append(part)
            size += len(part)
    return b"".join(parts)[: LONGEST_VERDICT + 1]


def _is_stopped(child: int) -> bool:
    """Whether it is stopped by a signal; its exit is left for `subprocess` to collect."""
    with contextlib.suppress(ChildProcessError):
        return os.waitid(os.P_PID, child, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    return False


def visible_folders() -> list[str]:
    """What Python needs: the system's libraries and this interpreter's own folders, with links resolved."""
    python = {sys.base_prefix, sys.prefix}
    python |= {os.path.realpath(folder) for folder in python}
    own = [folder for folder in sorted(python) if not _lies_in(folder, SYSTEM_FOLDERS)]
    inner = [folder for folder in own if not _lies_in(folder, [other for other in own if other != folder])]
    return [folder for folder in SYSTEM_FOLDERS if os.path.exists(folder)] + inner


def _lies_in(folder: str, others: Sequence[str]) -> bool:
    return any(folder == other or folder.startswith(f"{other}/") for other in others)


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    """An empty temporary folder, removed afterwards whatever it contains (without namespaces a program may write
    there).
    """
    folder = os.path.realpath(tempfile.mkdtemp(prefix="mindcoder-sandbox-"))
    try:
        yield folder
    finally:
        try:
            shutil.rmtree(folder)
        except (OSError, RecursionError):  # locked, or nested deeper than Python's recursion limit
            command = 'chmod -R u+rwx "$1"; rm -rf "$1"'
            subprocess.run(["sh", "-c", command, "sh", folder], stderr=subprocess.DEVNULL, check=False)


@contextlib.contextmanager
def _killed_at_the_end(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ensure that the process and everything it started are gone afterwards.

    Its death ends its process namespace. Without one, its descendants are killed while it is still their reaper.
    """
    try:
        yield
    finally:
        if process.poll() is None:
            _end_descendants(process.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("a process of the sandbox (%d) does not exit; it is left running", process.pid)
        if process.stdout is not None:
            process.stdout.close()


def _end_descendants(process: int) -> None:
    with contextlib.suppress(OSError):
        tree = Tree(process=process)
        try:
            tree.kill(END_SECONDS)
        finally:
            tree.close()
