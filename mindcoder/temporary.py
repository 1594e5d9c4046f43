"""Temporary files beside what is being written: held while their writer lives, cleared by the next one after it died.

A writer holds an advisory lock (flock) on its temporary file or folder. The kernel gives the lock up when the process
ends, however it ends, so a temporary that nobody holds was left behind. Process numbers and clocks say nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from mindcoder.errors import UserError

PATTERN = ".{name}.tmp-*"


def temporary_beside(path: Path) -> Path:
    """The name that this process writes ``path`` under before it renames it."""
    return path.with_name(f".{path.name}.tmp-{socket.gethostname()}-{os.getpid()}")


@contextlib.contextmanager
def held_file(path: Path) -> Iterator[int]:
    """Create ``path`` empty and hold it; gives the file descriptor."""
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        if _hold(descriptor, path):
            break
        os.close(descriptor)
    try:
        os.ftruncate(descriptor, 0)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def held_directory(path: Path) -> Iterator[Path]:
    """Create ``path`` as an empty directory and hold it."""
    while True:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if _hold(descriptor, path):
            break
        os.close(descriptor)
    try:
        yield path
    finally:
        os.close(descriptor)


def clear_abandoned(folder: Path, name: str = "*") -> list[Path]:
    """Remove the temporaries of ``name`` in ``folder`` that nobody holds any more; gives those that are still held."""
    held = []
    for path in sorted(folder.glob(PATTERN.format(name=name if name == "*" else glob.escape(name)))):
        if not _is_abandoned(path):
            held.append(path)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return held


def refuse_second_writer(target: Path, own: Path) -> None:
    """Clear what dead writers of ``target`` left.

    Raises:
        UserError: another process is writing ``target`` at this moment.
    """
    others = [path for path in clear_abandoned(target.parent, target.name) if path != own]
    if others:
        host, _, process = others[0].name.rpartition(".tmp-")[2].rpartition("-")
        raise UserError(
            f"is being written by process {process} on {host or 'this machine'}: wait for it or give another name",
            target,
        )


def _hold(descriptor: int, path: Path) -> bool:
    """Take the lock; False where somebody removed the path in the meantime."""
    with contextlib.suppress(OSError):  # a file system without locks: nothing is cleared there either
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _is_abandoned(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
