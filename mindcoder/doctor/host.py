"""The machine that is looked at: its files, its environment, and programs with a time limit.

Everything a check reads goes through here, so that a test can give it a folder for ``/`` and an environment of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mindcoder
from mindcoder.backend.cards import visible_cards
from mindcoder.errors import UserError
from mindcoder.files import read_bytes

SHORT = 1 << 16  # bytes read of a version file, and of what a program says
WHOLE_SECONDS = 55.0  # for all checks together


@dataclass(frozen=True)
class Answer:
    """What a program said.

    Attributes:
        code: exit code; None where it did not run to its end.
        output: stdout and stderr together, its first 64 KiB.
        failure: why there is no code.
    """

    code: int | None
    output: str
    failure: str = ""


@dataclass(frozen=True)
class Host:
    """A machine.

    Attributes:
        root: stands for ``/``.
        environment: of this process.
        on_ascend: whether the checks are made for Ascend.
        deadline: on the monotonic clock; no program is waited for beyond it.
        running: programs that have not ended.
    """

    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    on_ascend: bool = False
    deadline: float = field(default_factory=lambda: time.monotonic() + WHOLE_SECONDS)
    running: set[subprocess.Popen] = field(default_factory=set)

    def path(self, absolute: str) -> Path:
        """Where a path of the host is to be found."""
        return self.root / absolute.lstrip("/")

    def read(self, path: Path) -> str | None:
        """A small text file, or its beginning; None where there is none that can be read.

        Raises:
            UserError: what is there is no regular file, may not be read, or is much too long for a version file.
        """
        if not os.path.lexists(path):
            return None
        return read_bytes(path, SHORT).decode("utf-8", errors="replace")

    def read_system(self, absolute: str) -> str:
        """A file of /proc or /sys; empty where it is not there."""
        try:
            with open(self.path(absolute), "rb") as stream:
                return stream.read(SHORT).decode("utf-8", errors="replace")
        except OSError:
            return ""

    def cards(self) -> list[int]:
        """Logical ids of the Ascend cards that a process would see."""
        return visible_cards(self.environment, self.root)

    def program(self, name: str) -> str | None:
        """Where a program of PATH is."""
        with contextlib.suppress(OSError, ValueError):
            return shutil.which(name, path=self.environment.get("PATH", os.defpath))
        return None

    def run(self, command: Sequence[str], seconds: float) -> Answer:
        """Run a program without input; whatever it started ends with it when its time is up."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            return Answer(None, "", "no time was left for it")
        limit = min(seconds, left)
        try:
            with tempfile.TemporaryFile() as output:
                return self._run(command, limit, output)
        except (OSError, ValueError) as error:
            return Answer(None, "", f"cannot be started: {getattr(error, 'strerror', None) or error}")

    def python(self, code: str, seconds: float, *arguments: str) -> Answer:
        """Run Python code in a process of its own, which finds MindCoder, and no module of the working folder."""
        found = f"import sys; sys.path.append({str(Path(mindcoder.__file__).parent.parent)!r})\n"
        return self.run([sys.executable, "-P", "-c", found + code, *arguments], seconds)

    def end_programs(self) -> None:
        """After Ctrl-C, and where a check was given up."""
        for process in list(self.running):
            _end(process)

    def _run(self, command: Sequence[str], seconds: float, output) -> Answer:
        process = subprocess.Popen(
            list(command),
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.running.add(process)
        code: int | None = None
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _end(process)
            self.running.discard(process)
        output.seek(0)
        text = output.read(SHORT).decode("utf-8", errors="replace")
        return Answer(code, text, "" if code is not None else f"gave no answer within {seconds:.0f} s")


def _end(process: subprocess.Popen) -> None:
    """Kill what is left of a program's session; one that the kernel holds is left to it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)


def said(error: Exception) -> str:
    """What an error says, without the place that a `UserError` begins with being lost."""
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def size(number: float) -> str:
    """``12.3 GB``."""
    return f"{number / 1e9:.1f} GB" if number < 9.95e10 else f"{number / 1e9:.0f} GB"
