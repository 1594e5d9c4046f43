"""Files for what a GGUF file holds inside: tokenizer and settings, in a temporary folder of this process."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path


def unpacked(files: Mapping[str, str]) -> dict[str, Path]:
    """Write texts under their names into a folder that exists until the process ends; equal texts are written once."""
    digest = hashlib.sha256("\0".join(f"{name}\0{text}" for name, text in files.items()).encode()).hexdigest()[:16]
    folder = Path(_own_folder().name) / digest
    paths = {name: folder / name for name in files}
    if not folder.is_dir():
        folder.mkdir()
        for name, path in paths.items():
            path.write_text(files[name], encoding="utf-8")
    return paths


@functools.cache
def _own_folder() -> tempfile.TemporaryDirectory[str]:
    """Removed when the interpreter ends."""
    return tempfile.TemporaryDirectory(prefix="mindcoder-gguf-")
