"""Temporary files beside the output: locked while their writer lives, removed by the next writer after it died.

A writer holds an advisory lock (flock) on its temporary file or folder. The kernel releases the lock when the process
ends, however it ends, so an unlocked temporary was abandoned. Process ids and clocks are not reliable for this.
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
    """The temporary name under which this process writes ``path`` before renaming it."""
    return path.with_name(f".{path.name}.tmp-{socket.gethostname()}-{os.getpid()}")


@contextlib.contextmanager
def held_file(path: Path) -> Iterator[int]:
    """Create ``path`` empty and lock it; yields the file descriptor."""
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
    """Create ``path`` as an empty directory and lock it."""
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
    """Remove the temporaries of ``name`` in ``folder`` that are no longer locked; returns those that are."""
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
    """Remove what dead writers of ``target`` left.

    Raises:
        UserError: another process is currently writing ``target``.
    """
    others = [path for path in clear_abandoned(target.parent, target.name) if path != own]
    if others:
        host, _, process = others[0].name.rpartition(".tmp-")[2].rpartition("-")
        raise UserError(
            f"is being written by process {process} on {host or 'this machine'}: wait for it or use another name",
            target,
        )


def _hold(descriptor: int, path: Path) -> bool:
    """Take the lock; False if the path was removed in the meantime."""
    with contextlib.suppress(OSError):  # a file system without locks: nothing is cleaned up there either
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
