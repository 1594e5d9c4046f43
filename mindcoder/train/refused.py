"""A run that is refused before it begins leaves nothing behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mindcoder.errors import UserError

BEFORE_A_RUN = ("data/records-*.jsonl", "log/mindcoder.log")  # what is written before everything is checked


@contextlib.contextmanager
def refusals_leave_nothing(output: Path) -> Iterator[None]:
    """Within, a `UserError` removes what was new in ``output``, if that is no more than `BEFORE_A_RUN`."""
    before = _paths(output)
    existed = {path for path in (output, *output.parents) if path.exists()}
    try:
        yield
    except UserError:
        with contextlib.suppress(OSError):
            _remove(output, _paths(output) - before)
            for folder in (output, *output.parents):
                if folder not in existed:
                    folder.rmdir()
        raise


def _paths(output: Path) -> set[Path]:
    return set(output.rglob("*"))


def _remove(output: Path, new: set[Path]) -> None:
    files = {path for path in new if not path.is_dir()}
    if not all(any(path.relative_to(output).match(pattern) for pattern in BEFORE_A_RUN) for path in files):
        return
    for path in files:
        path.unlink()
    for folder in sorted(new - files, reverse=True):  # a folder after those in it
        folder.rmdir()
