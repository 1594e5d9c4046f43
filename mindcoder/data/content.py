"""What a dataset holds, as one digest: the same rows in the same order give the same, whatever the files are called."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
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
    key = signature(loader.files)
    known = _read(cache)
    if key not in known:
        nbytes = sum(file.stat().st_size for file in loader.files)
        if nbytes >= LARGE:
            log.info("reading the data once (%.1f GB), to know it again when the run is resumed", nbytes / 1e9)
        known[key] = loader.digest()
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_text(cache, json.dumps(dict(list(known.items())[-KEPT:]), indent=2) + "\n")
    return known[key]


def signature(files: Sequence[Path]) -> str:
    """Of files as they lie there: names, sizes and times of change."""
    states = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(states).encode()).hexdigest()


def _read(cache: Path) -> dict[str, str]:
    """What is known; a cache that cannot be read is none."""
    try:
        return {key: value for key, value in read_json_object(cache).items() if isinstance(value, str)}
    except UserError:
        return {}
