"""What a rank prints, on its way into the rank's log and, for one rank, to the terminal too.

A rank never waits for its log: when the disk is full, what it prints is lost and the log says how much, as soon as it
can. When nobody reads the launcher's output any more (``| head``), the launcher is told.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable
from pathlib import Path

CHUNK = 65536
NOISE = b"[INFO] DISTRIBUTED("  # MindSpore tells of every connection, whatever GLOG_v says; the log keeps it
STDOUT, STDERR = 1, 2


def say(text: str, prefix: str = "mindcoder: ") -> None:
    """A line of the launcher's own for the terminal; nobody has to read it."""
    try:
        write_all(STDERR, f"{prefix}{text}\n".encode(errors="backslashreplace"))
    except OSError:
        pass


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``, also to a terminal that somebody has set to non-blocking."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            select.select([], [descriptor], [], 1.0)


class LogRelay(threading.Thread):
    """Copies a pipe to a log file until every process that may write into the pipe has ended.

    Args:
        source: reading end of the pipe; closed at the end.
        log_file: is created anew.
        shows: whether the output goes to the terminal too.
        on_unread: called once when nobody reads the terminal's end any more.

    Raises:
        OSError: the log file cannot be made.
    """

    def __init__(self, source: int, log_file: Path, shows: bool, on_unread: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.source, self.log_file, self.shows, self.on_unread = source, log_file, shows, on_unread
        self.lost = 0  # bytes since the log could last be written
        self.told = False
        self.log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)

    def run(self) -> None:
        """Copy."""
        try:
            while chunk := os.read(self.source, CHUNK):
                self._keep(chunk)
                if self.shows:
                    self._show(chunk)
        finally:
            os.close(self.source)
            os.close(self.log)

    def _keep(self, chunk: bytes) -> None:
        try:
            if self.lost:
                write_all(self.log, f"\n[mindcoder: {self.lost} bytes of output are missing here]\n".encode())
                self.lost = 0
            write_all(self.log, chunk)
        except OSError as error:
            self.lost += len(chunk)
            if not self.told:
                self.told = True
                say(f"{self.log_file}: {error.strerror}; the job goes on, what its rank prints is lost from here")

    def _show(self, chunk: bytes) -> None:
        kept = b"".join(line for line in chunk.splitlines(keepends=True) if not line.startswith(NOISE))
        try:
            sys.stdout.flush()
            write_all(STDOUT, kept)
        except (OSError, ValueError):
            self.shows = False
            self.on_unread()


def last_lines(file: Path, count: int, most_bytes: int = CHUNK) -> list[str]:
    """The end of a log; nothing where it cannot be read."""
    try:
        with open(file, "rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - most_bytes))
            return stream.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []
