"""One writer per folder: a lock file that names the owner, released by the kernel when that process ends."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mindcoder.errors import UserError

LOCK_FILE = "run.lock"
MOST_BYTES = 4096  # of the text in a lock file

log = logging.getLogger(__name__)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Lock ``folder`` against other writers; readers are not affected.

    The lock is the kernel's (flock): it ends with the process, even if that is killed, so a leftover file blocks
    nobody. The file's text (process, host, start, command) is for people.

    Raises:
        UserError: another process holds it, or the folder is not writable.
    """
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _take(path)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", error.filename or path) from None
    try:
        left = _read(path)
        if left:
            log.warning("%s was left by %s, which ended without a word", path, _describe(left))
        text = json.dumps(_who_we_are(), indent=2) + "\n"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode()[:MOST_BYTES], 0)
        yield
    finally:
        path.unlink(missing_ok=True)  # while we still hold it, so that a waiting process notices that the name is gone
        os.close(descriptor)


def _take(path: Path) -> int:
    """A descriptor of the lock file under this name, locked by us."""
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise _in_use(path) from None
            return _take_without_locks(path)
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # its holder has just finished and removed it


def _take_without_locks(path: Path) -> int:
    """On a file system without locks, the text decides."""
    holder = _read(path)
    same_host = holder.get("host") == socket.gethostname()
    if holder and not (same_host and not Path(f"/proc/{holder.get('pid')}").exists()):
        raise _in_use(path, f"; if that has ended, remove {path.name}")
    return os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)


def _in_use(path: Path, advice: str = "") -> UserError:
    return UserError(
        f"is in use by {_describe(_read(path))}: wait until it ends, or give another output_dir{advice}", path.parent
    )


def _who_we_are() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": shlex.join(sys.argv)[: MOST_BYTES // 2],
    }


def _read(path: Path) -> dict[str, Any]:
    """Content of a lock file; empty if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            values = json.loads(stream.read(MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _describe(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return (
        f"process {holder.get('pid')} on {holder.get('host')} since {holder.get('started')} ({holder.get('command')})"
    )
