"""Where generated code runs: one process a program, shut off from files, network and other processes, and limited."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mindcoder.errors import UserError

Isolation = Literal["namespaces", "limits"]
CHILD = Path(__file__).parent / "sandbox_child.py"
SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/lib32", "/bin")


@dataclass(frozen=True)
class SandboxOptions:
    """How a program is held.

    Attributes:
        seconds: of wall clock, and of CPU time.
        memory_bytes: of address space.
        file_bytes: of a file; /tmp holds four times as much.
        processes: that may exist at once.
        isolation: ``namespaces``: own root, network, processes and users. ``limits``: none of these, rlimits only.
    """

    seconds: float = 10.0
    memory_bytes: int = 4 * 2**30
    file_bytes: int = 16 * 2**20
    processes: int = 32
    isolation: Isolation = "namespaces"


@dataclass(frozen=True)
class Outcome:
    """Whether a program reached its end, and if not, what stopped it."""

    passed: bool
    reason: str = ""


class Sandbox:
    """Runs programs; `check` it before the first one.

    What it does not do: hide the machine's kernel, or hold against code that attacks the few lines of Python around it
    in its own process (it could search memory for the secret that stands for "passed").
    """

    def __init__(self, options: SandboxOptions) -> None:
        self.options = options

    def check(self) -> None:
        """Run a harmless program and one that must fail.

        Raises:
            UserError: this machine has no namespaces for unprivileged users, or the sandbox does not hold.
        """
        outcome = self.run("assert sum(range(4)) == 6")
        if not outcome.passed:
            raise UserError(
                f"the sandbox does not work here ({outcome.reason}); it needs user namespaces (in a container: "
                "--security-opt seccomp=unconfined). --sandbox limits runs generated code with rlimits only: "
                "in a machine that you can lose"
            )
        if self.run("import os; os._exit(0)").passed:
            raise UserError("the sandbox takes an early exit for success; nothing is run")

    def run(self, program: str) -> Outcome:
        """One program: it passes when it runs to its end without an exception."""
        options, secret = self.options, secrets.token_hex(16)
        with tempfile.TemporaryDirectory(prefix="mindcoder-sandbox-") as root:
            order = {
                "program": program,
                "secret": secret,
                "namespaces": options.isolation == "namespaces",
                "root": root,
                "visible": visible_folders(),
                "limits": {
                    "CPU": max(int(options.seconds) + 1, 1),
                    "AS": options.memory_bytes,
                    "FSIZE": options.file_bytes,
                    "NOFILE": 64,
                    "NPROC": options.processes,
                    "CORE": 0,
                },
            }
            text = self._start(json.dumps(order), root)
        if text is None:
            return Outcome(False, f"timed out after {options.seconds:g} s")
        try:
            answer = json.loads(text)
        except ValueError:
            return Outcome(False, "no verdict")
        if "broken" in answer:
            return Outcome(False, f"sandbox: {answer['broken']}")
        return Outcome(answer.get("secret") == secret, str(answer.get("error", "")))

    def _start(self, order: str, folder: str) -> str | None:
        """The child's answer; None when its time is over."""
        process = subprocess.Popen(
            [sys.executable, "-I", str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        with _killed_at_the_end(process):
            try:
                return process.communicate(order, timeout=self.options.seconds)[0]
            except subprocess.TimeoutExpired:
                return None

    def run_all(self, programs: Sequence[str], workers: int | None = None) -> Iterator[Outcome]:
        """Outcomes in the programs' order, several at a time."""
        with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
            yield from pool.map(self.run, programs)


def visible_folders() -> list[str]:
    """What Python needs: the system's libraries and this interpreter's own folders."""
    python = {sys.base_prefix, sys.prefix}
    own = [folder for folder in sorted(python) if not folder.startswith(SYSTEM_FOLDERS)]
    inner = [folder for folder in own if not any(folder.startswith(f"{other}/") for other in own)]
    return [folder for folder in SYSTEM_FOLDERS if os.path.exists(folder)] + inner


@contextlib.contextmanager
def _killed_at_the_end(process: subprocess.Popen[str]) -> Iterator[None]:
    """Whatever happens, the process and all of its session are gone afterwards."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
