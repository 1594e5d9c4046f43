"""The folder of a job's logs: one job at a time writes there, and failed attempts keep theirs."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mindcoder.errors import UserError

HOLDER_BYTES = 1000  # of the text in a lock file


@contextmanager
def hold_log_folder(folder: Path, ranks: Sequence[int]) -> Iterator[None]:
    """Hold the logs of ``ranks`` against other launchers; those of other servers may write beside them.

    The locks are the kernel's (flock): they end with the launcher, also when it is killed.

    Raises:
        UserError: another job writes the logs of one of these ranks here, or the folder cannot be made.
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
        path.unlink(missing_ok=True)  # while we still hold it: whoever waits for it sees that the name is gone
        os.close(descriptor)


def _take(path: Path, rank: int) -> int:
    """A descriptor of the lock file that is under this name and held by us."""
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
        os.close(descriptor)  # its holder has just ended and removed it


def keep_failed_logs(folder: Path, ranks: Sequence[int]) -> Path:
    """Move the logs of a failed attempt into ``attempt_1``, or the next number that does not have such logs yet."""
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
