"""Digest of a dataset's content: depends on the rows and their order, not on file names."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from mindcoder.data.loader import Loader
from mindcoder.errors import UserError
from mindcoder.files import read_json_object, write_text

LARGE = 1 << 30  # bytes above which reading everything is announced
KEPT = 16  # number of cached digests

log = logging.getLogger(__name__)


def content_digest(loader: Loader, cache: Path) -> str:
    """Digest of all rows (of a stream: of its files), cached by file sizes and times.

    Args:
        loader: of the dataset.
        cache: JSON file of known digests.
    """
    return kept_digest(loader.files, loader.digest, cache, "data")


def kept_digest(files: Sequence[Path], digest: Callable[[], str], cache: Path, what: str) -> str:
    """``digest()`` of the content of ``files``, from ``cache`` as long as the files are unchanged.

    Args:
        what: is being read, for the log.
    """
    key = signature(files)
    known = _read(cache)
    if key not in known:
        nbytes = sum(file.stat().st_size for file in files)
        if nbytes >= LARGE:
            log.info("hashing the %s (%.1f GB), to recognize it when the run is resumed", what, nbytes / 1e9)
        known[key] = digest()
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_text(cache, json.dumps(dict(list(known.items())[-KEPT:]), indent=2) + "\n")
    return known[key]


def signature(files: Sequence[Path]) -> str:
    """Signature of files on disk: names, sizes, times and inodes.

    ``cp -p`` and ``rsync -t`` give other contents the same mtime; the inode's change time cannot be set.
    """
    found = [(file.resolve(), file.stat()) for file in files]
    states = [(str(path), at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_ino) for path, at in found]
    return hashlib.sha256(repr(states).encode()).hexdigest()


def _read(cache: Path) -> dict[str, str]:
    """The known digests; an unreadable cache counts as empty."""
    try:
        return {key: value for key, value in read_json_object(cache).items() if isinstance(value, str)}
    except UserError:
        return {}
