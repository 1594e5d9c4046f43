"""The machine that is looked at: its files, its environment, and programs with a time limit.

Everything a check reads goes through here, so that a test can give it a folder for ``/`` and an environment of its own.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
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
TICK_SECONDS = 0.1  # between looks at whether a program has ended


@dataclass(frozen=True)
class Answer:
    """What a program said.

    Attributes:
        code: exit code; None where it did not run to its end.
        output: stdout and stderr together; at most 64 KiB from its beginning and as much from its end.
        failure: why there is no code.
        is_late: whether that is because its time was up.
    """

    code: int | None
    output: str
    failure: str = ""
    is_late: bool = False


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
            UserError: it is not a regular file, may not be read, or is much too long for a version file.
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
            return Answer(None, "", "no time was left for it", is_late=True)
        try:
            process = subprocess.Popen(
                list(command),
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (OSError, ValueError, RuntimeError) as error:
            return Answer(None, "", f"cannot be started: {getattr(error, 'strerror', None) or error}")
        limit = min(seconds, left)
        self.running.add(process)
        try:
            output = _read(process, limit)
        finally:
            _end(process)
            self.running.discard(process)
        if output is None:
            return Answer(None, "", f"gave no answer within {limit:.0f} s", is_late=True)
        return Answer(process.returncode, output.decode("utf-8", errors="replace"))

    def python(self, code: str, seconds: float, *arguments: str) -> Answer:
        """Run Python code in a process of its own, which finds MindCoder, and no module of the working folder."""
        found = f"import sys; sys.path.append({str(Path(mindcoder.__file__).parent.parent)!r})\n"
        return self.run([sys.executable, "-P", "-c", found + code, *arguments], seconds)

    def end_programs(self) -> None:
        """After Ctrl-C, and where a check was given up."""
        for process in list(self.running):
            _end(process)


def _read(process: subprocess.Popen, seconds: float) -> bytes | None:
    """Wait for a program and give the beginning and the end of what it said; None when time is up.

    What it has started may keep its output open; that is not waited for.
    """
    assert process.stdout is not None
    begin, end, limit = b"", b"", time.monotonic() + seconds
    with process.stdout as stream:
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        while time.monotonic() < limit:
            ended = process.poll() is not None
            if not poll.poll(0 if ended else TICK_SECONDS * 1000):
                if ended:
                    return begin + end
                continue
            part = os.read(stream.fileno(), SHORT)
            if not part:
                poll.unregister(stream)
                try:
                    process.wait(max(0.0, limit - time.monotonic()))
                except subprocess.TimeoutExpired:
                    return None
                return begin + end
            room = SHORT - len(begin)
            begin += part[:room]
            end = (end + part[room:])[-SHORT:]
    return None


def _end(process: subprocess.Popen) -> None:
    """Kill what is left of a program's session; one that the kernel holds is left to it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)


def said(error: Exception) -> str:
    """What an error says, without losing the path that a `UserError` begins with."""
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def size(number: float) -> str:
    """``12.3 GB``."""
    return f"{number / 1e9:.1f} GB" if number < 9.95e10 else f"{number / 1e9:.0f} GB"
