"""Files for what a GGUF file holds inside: tokenizer and settings, in a temporary folder of this process."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def already_unpacked(source: Path) -> dict[str, Path]:
    """What this process has unpacked from a file that has not changed since, by name; nothing if it has not."""
    folder = _folder_of(source)
    return {path.name: path for path in sorted(folder.iterdir())} if folder.is_dir() else {}


def unpacked(source: Path, files: Mapping[str, str]) -> dict[str, Path]:
    """Write texts from ``source`` under their names into a folder that exists until the process ends."""
    staging = Path(tempfile.mkdtemp(dir=_own_folder().name))
    for name, text in files.items():
        (staging / name).write_text(text, encoding="utf-8")
    with contextlib.suppress(OSError):  # another thread was faster
        staging.rename(_folder_of(source))
    return already_unpacked(source)


def _folder_of(source: Path) -> Path:
    found = os.stat(source)
    told = f"{source.resolve()} {found.st_ino} {found.st_mtime_ns} {found.st_size}"
    return Path(_own_folder().name) / hashlib.sha256(os.fsencode(told)).hexdigest()[:16]


@functools.cache
def _own_folder() -> tempfile.TemporaryDirectory[str]:
    """Removed when the interpreter ends."""
    return tempfile.TemporaryDirectory(prefix="mindcoder-gguf-")
