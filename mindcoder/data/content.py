"""What a dataset holds, as one digest: the same rows in the same order give the same, whatever the files are called."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from mindcoder.data.loader import Loader
from mindcoder.errors import UserError
from mindcoder.files import read_json_object, write_text

LARGE = 1 << 30  # bytes from which reading all of it is worth a line
KEPT = 16  # digests in the cache

log = logging.getLogger(__name__)


def content_digest(loader: Loader, cache: Path) -> str:
    """Digest of all rows (of a stream: of its files); read once and then known by the files' sizes and times.

    Args:
        loader: of the dataset.
        cache: JSON file of digests that are known.
    """
    return kept_digest(loader.files, loader.digest, cache, "data")


def kept_digest(files: Sequence[Path], digest: Callable[[], str], cache: Path, what: str) -> str:
    """``digest()`` of what is in ``files``, from ``cache`` while they stay as they are.

    Args:
        what: is read, for the log.
    """
    key = signature(files)
    known = _read(cache)
    if key not in known:
        nbytes = sum(file.stat().st_size for file in files)
        if nbytes >= LARGE:
            log.info("reading the %s once (%.1f GB), to know it again when the run is resumed", what, nbytes / 1e9)
        known[key] = digest()
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_text(cache, json.dumps(dict(list(known.items())[-KEPT:]), indent=2) + "\n")
    return known[key]


def signature(files: Sequence[Path]) -> str:
    """Of files as they lie there: names, sizes, times and inodes.

    ``cp -p`` and ``rsync -t`` give other contents the same mtime; the time of the inode's change cannot be set.
    """
    found = [(file.resolve(), file.stat()) for file in files]
    states = [(str(path), at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_ino) for path, at in found]
    return hashlib.sha256(repr(states).encode()).hexdigest()


def _read(cache: Path) -> dict[str, str]:
    """What is known; a cache that cannot be read is none."""
    try:
        return {key: value for key, value in read_json_object(cache).items() if isinstance(value, str)}
    except UserError:
        return {}
