"""Which GGUF file a path of weights means."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mindcoder.checkpoint.gguf.header import BIG_ENDIAN_MAGIC, MAGIC
from mindcoder.checkpoint.huggingface import WEIGHT_FILES
from mindcoder.errors import UserError

SUFFIX = ".gguf"
NAMES_SHOWN = 5


def gguf_files(path: Path) -> list[Path]:
    """The file itself, or those of a folder that holds no other weights."""
    if not path.is_dir():
        return [path] if path.exists() and (path.suffix.lower() == SUFFIX or _begins_like_one(path)) else []
    if any((path / name).is_file() for names in WEIGHT_FILES for name in names):
        return []
    return sorted(file for file in path.iterdir() if file.suffix.lower() == SUFFIX and file.is_file())


def gguf_file(path: Path) -> Path | None:
    """The only one of them; None if there is none.

    Raises:
        UserError: there are several.
    """
    files = gguf_files(path)
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:NAMES_SHOWN]) + (" …" if len(files) > NAMES_SHOWN else "")
        raise UserError(f"holds {len(files)} GGUF files: give one of {names}", path)
    return files[0] if files else None


def _begins_like_one(file: Path) -> bool:
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):  # a named pipe would block
            return False
        with open(file, "rb") as stream:
            return stream.read(4) in (MAGIC, BIG_ENDIAN_MAGIC)
    except OSError:
        return False
