"""The CPU's side of the operators that layers call: `mindcoder/native` as MindSpore's CPU operator plugin.

Layers are written in operators of Ascend, most of which MindSpore 2.9 has no CPU kernel for. MS_OP_PLUGIN_PATH names a
library that adds kernels, or replaces MindSpore's (its source: op_plugin_utils.cc). MindSpore reads it when a process
runs its first operator. With it set, PyNative mode no longer makes views contiguous for any operator on CPU,
MindSpore's own included, so it is set for our processes only, not by `import mindcoder`.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

from mindcoder.errors import UserError

LIBRARY = Path(__file__).resolve().parent.parent / "native" / "libmindcoder_cpu.so"
VARIABLE = "MS_OP_PLUGIN_PATH"
BUILD = "pip install -e . builds it (setup.py)"


def offer_operators(environment: MutableMapping[str, str] = os.environ) -> None:
    """Name the library to MindSpore, unless another is named already."""
    if LIBRARY.is_file():
        environment.setdefault(VARIABLE, str(LIBRARY))


def plugin_is_named(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Whether MindSpore has been told of the library."""
    return environment.get(VARIABLE) == str(LIBRARY)


def withdraw_operators(environment: MutableMapping[str, str] = os.environ) -> None:
    """For an Ascend, whose backend would look for kernels there, too."""
    if plugin_is_named(environment):
        del environment[VARIABLE]


def require_operators(environment: MutableMapping[str, str] = os.environ) -> None:
    """Name the library to MindSpore.

    Raises:
        UserError: it is not built, or another library is named.
    """
    offer_operators(environment)
    if not LIBRARY.is_file():
        raise UserError(f"{LIBRARY}: found no such file, expected the operators for CPU; {BUILD}")
    if environment[VARIABLE] != str(LIBRARY):
        found = environment[VARIABLE]
        raise UserError(f"{VARIABLE}: found {found}, expected {LIBRARY} or nothing: MindSpore takes one library")
