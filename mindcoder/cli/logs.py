"""Logging: short on the terminal, complete in a file."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from mindcoder.progress import tqdm

PLAIN = logging.Formatter("%(message)s")
DETAILED = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


class AroundProgressBars(logging.Handler):
    """Writes to stderr without breaking a visible progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def start_logging(folder: Path | None = None) -> Path | None:
    """Send our messages to stderr and, with ``folder``, to ``folder/mindcoder.log``; returns that file."""
    root = logging.getLogger("mindcoder")
    root.setLevel(logging.DEBUG)
    root.propagate = False
    root.handlers.clear()
    console = AroundProgressBars()
    console.setLevel(logging.INFO)
    console.setFormatter(PLAIN)
    root.addHandler(console)
    if folder is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mindcoder.log"
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(DETAILED)
    root.addHandler(file)
    return path
