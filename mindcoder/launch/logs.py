"""Logs of ranks: what they print goes to ``rank_N.log``, for one rank to the terminal too.

A rank never waits for its log: when the disk is full its output is dropped, and the log says how many bytes are
missing as soon as it can be written again. When nobody reads the launcher's output any more (``| head``), the launcher
is notified. One job at a time writes to a log folder, and failed attempts keep their logs.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mindcoder.errors import UserError

CHUNK = 65536
NOISE = b"[INFO] DISTRIBUTED("  # MindSpore reports every connection, whatever GLOG_v says; only the log keeps it
STDOUT, STDERR = 1, 2
HOLDER_BYTES = 1000  # of the text in a lock file


def say(text: str, prefix: str = "mindcoder: ") -> None:
    """Print a line of the launcher to the terminal; does nothing if nobody reads it."""
    try:
        write_all(STDERR, f"{prefix}{text}\n".encode(errors="backslashreplace"))
    except OSError:
        pass


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``, also to a terminal that another program has made non-blocking."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            select.select([], [descriptor], [], 1.0)


class LogRelay(threading.Thread):
    """Copies a pipe to a log file until every process that holds the pipe's writing end has exited.

    Args:
        source: reading end of the pipe; closed at the end.
        log_file: is replaced.
        shows: whether the output is also shown on the terminal.
        on_unread: called once when nobody reads the terminal output any more.

    Raises:
        OSError: the log file cannot be created.
    """

    def __init__(self, source: int, log_file: Path, shows: bool, on_unread: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.source, self.log_file, self.shows, self.on_unread = source, log_file, shows, on_unread
        self.lost = 0  # bytes dropped since the last successful write
        self.told = False
        self.log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)

    def run(self) -> None:
        """Copy until the end of the pipe."""
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
    """The last lines of a log; empty if it cannot be read."""
    try:
        with open(file, "rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - most_bytes))
            return stream.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []


@contextmanager
def hold_log_folder(folder: Path, ranks: Sequence[int]) -> Iterator[None]:
    """Lock the logs of ``ranks`` against other jobs; other servers of the same job may log to the folder as well.

    The locks are flocks, so the kernel releases them even if the launcher is killed.

    Raises:
        UserError: another job logs one of these ranks here, or the folder cannot be created.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for rank in ranks:
                stack.enter_context(_lock(folder / f".rank_{rank}.lock", rank))
        except OSError as error:
            raise UserError(f"cannot be written: {error.strerror}", error.filename or folder) from None
        yield


@contextmanager
def _lock(path: Path, rank: int) -> Iterator[None]:
    descriptor = _take(path, rank)
    try:
        os.ftruncate(descriptor, 0)
        holder = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        os.pwrite(descriptor, holder.encode()[:HOLDER_BYTES], 0)
        yield
    finally:
        path.unlink(missing_ok=True)  # while we hold the lock: who opened the file before sees that its name is gone
        os.close(descriptor)


def _take(path: Path, rank: int) -> int:
    """Lock the file of this name and return its descriptor."""
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, HOLDER_BYTES, 0).decode(errors="replace")
            os.close(descriptor)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            who = holder if holder.isprintable() and holder else "another launcher"
            message = f"rank {rank} of another job writes its log here ({who}): give another --log_dir"
            raise UserError(message, path.parent) from None
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # its holder has just exited and removed it


def keep_failed_logs(folder: Path, ranks: Sequence[int]) -> Path:
    """Move the logs of a failed attempt to ``attempt_N``, N being the first number without such logs."""
    names = ["scheduler.log", *(f"rank_{rank}.log" for rank in ranks)]
    found = [name for name in names if (folder / name).is_file()]
    number = 1
    while any((folder / f"attempt_{number}" / name).exists() for name in found):
        number += 1
    target = folder / f"attempt_{number}"
    target.mkdir(exist_ok=True)
    for name in found:
        (folder / name).rename(target / name)
    return target
