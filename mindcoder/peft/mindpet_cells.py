"""mindpet's cells, imported only when needed: the import pulls in MindFormers (3 s), which logs a lot."""

from __future__ import annotations

import contextlib
import io
from importlib import import_module
from typing import Any


def mindpet_cell(module: str, name: str) -> Any:
    """A class of ``mindpet.delta``."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return getattr(import_module(f"mindpet.delta.{module}"), name)
