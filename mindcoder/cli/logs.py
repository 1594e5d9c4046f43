"""Logging on the terminal; `mindcoder.run_log` is the file of a run."""

from __future__ import annotations

import logging
import sys

from mindcoder.progress import tqdm

PLAIN = logging.Formatter("%(message)s")


class AroundProgressBars(logging.Handler):
    """Writes to stderr without breaking a visible progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def start_logging() -> None:
    """Send our messages to stderr."""
    root = logging.getLogger("mindcoder")
    root.setLevel(logging.DEBUG)
    root.propagate = False
    root.handlers.clear()
    console = AroundProgressBars()
    console.setLevel(logging.INFO)
    console.setFormatter(PLAIN)
    root.addHandler(console)
