"""Writing so that nobody ever sees half a file."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from mindcoder.errors import NoSpaceError


def write_text(path: Path, text: str) -> None:
    """Write beside and rename."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with no_space_error(path):
        try:
            with open(temporary, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def staging_directory(target: Path) -> Iterator[Path]:
    """An empty directory beside ``target`` to write into; removed at the end, whatever is left in it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        with no_space_error(target):
            yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def no_space_error(target: Path) -> Iterator[None]:
    """Turn the ways in which libraries say "disk full" into one `NoSpaceError` that names ``target``."""
    try:
        yield
    except NoSpaceError:
        raise
    except Exception as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if full or any(text in str(error) for text in ("No space left", "not enough disk space", "File too large")):
            free = shutil.disk_usage(target.parent).free
            raise NoSpaceError(
                f"no disk space left to write it ({free / 1e6:.0f} MB free); nothing was changed", target
            ) from None
        raise


def require_space(target: Path, needed: int) -> None:
    """Refuse before writing when ``needed`` bytes will not fit.

    Raises:
        NoSpaceError: with both figures.
    """
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise NoSpaceError(f"no disk space: {needed / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free", target)
