"""The log file of a run, beside whatever shows messages."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OURS = "mindcoder"  # the logger above all of ours
DETAILED = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


class _Above(logging.Handler):
    """Shows the loggers above ours what they would have got without the file: no more than their level asks for."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger().callHandlers(record)


@contextmanager
def run_log(folder: Path) -> Iterator[Path]:
    """Within, all our messages go to ``folder/mindcoder.log`` too; gives that file.

    A program's own logging stays as it is: the file needs our logger to let debug messages through, and those are kept
    from the handlers above it. The command line has handlers of its own on our logger, with levels of their own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mindcoder.log"
    logger = logging.getLogger(OURS)
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(DETAILED)
    added: list[logging.Handler] = [file]
    level, propagates = logger.level, logger.propagate
    if propagates:
        above = _Above(logger.getEffectiveLevel())
        added.append(above)
        logger.propagate = False
    logger.setLevel(logging.DEBUG)
    for handler in added:
        logger.addHandler(handler)
    try:
        yield path
    finally:
        for handler in added:
            logger.removeHandler(handler)
        file.close()
        logger.propagate = propagates
        logger.setLevel(level)
