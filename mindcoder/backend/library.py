"""The C++ operators for CPU: `mindcoder/native`, compiled by the installation."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from mindcoder.errors import UserError

LIBRARY = Path(__file__).resolve().parent.parent / "native" / "libmindcoder_cpu.so"
BUILD = "pip install -e . builds it (setup.py)"


def require_library() -> None:
    """Check that it is there.

    Raises:
        UserError: it is not.
    """
    if not LIBRARY.is_file():
        raise UserError(f"{LIBRARY}: found no such file, expected the operators for CPU; {BUILD}")


@cache
def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32."""
    asked = ctypes.CDLL(str(LIBRARY)).MindCoderHasBfloat16
    asked.restype = ctypes.c_bool
    return asked()
