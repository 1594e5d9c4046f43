"""Operators of the C++ library, called as `ops.Custom` calls them."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import torch

LIBRARY = Path(__file__).parent.parent / "mindcoder" / "native" / "libmindcoder_cpu.so"
OTHER_LIBRARY = "MINDCODER_TEST_LIBRARY"  # path of another build to test


def pytest_command(file: str, names: str) -> list[str]:
    """Arguments of Python that run ``file``'s tests of these names (as ``-k``) in a process without MindSpore."""
    return ["-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", file, "-k", names]


class OperatorLibrary:
    """The functions of a library.

    Args:
        path: of the library; by default the installed one, or the one that `OTHER_LIBRARY` names.

    Raises:
        OSError: there is no such library.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.library = ctypes.CDLL(str(path or os.environ.get(OTHER_LIBRARY) or LIBRARY))

    def has(self, name: str) -> bool:
        """Whether it has an operator of this name."""
        return hasattr(self.library, name)

    def call(self, name: str, *parameters: Any) -> int:
        """Call an operator.

        Args:
            name: of the operator.
            parameters: inputs, attributes and outputs: contiguous tensors, numbers, lists of integers or None.

        Returns:
            What the operator returned, 0 for success.
        """
        tensors = [as_tensor(item) for item in parameters]
        count = len(tensors)
        data = (ctypes.c_void_p * count)(*(None if item is None else item.data_ptr() for item in tensors))
        ndims = (ctypes.c_int * count)(*(0 if item is None else item.dim() for item in tensors))
        shapes = (ctypes.POINTER(ctypes.c_int64) * count)()
        kept = []
        for index, item in enumerate(tensors):
            kept.append((ctypes.c_int64 * 8)(*(() if item is None else item.shape)))
            shapes[index] = ctypes.cast(kept[-1], ctypes.POINTER(ctypes.c_int64))
        names = (ctypes.c_char_p * count)(*(dtype_name(item).encode() for item in tensors))
        return getattr(self.library, name)(count, data, ndims, shapes, names, None, None)


def as_tensor(parameter: Any) -> torch.Tensor | None:
    """A parameter as it is passed: scalars are int64, float32 or bool without axes, lists int64."""
    if parameter is None:
        return None
    if isinstance(parameter, torch.Tensor):
        assert parameter.is_contiguous()
        return parameter
    if isinstance(parameter, float):
        return torch.tensor(parameter, dtype=torch.float32)
    return torch.tensor(parameter)


def dtype_name(tensor: torch.Tensor | None) -> str:
    """MindSpore's name of its dtype."""
    return "none" if tensor is None else str(tensor.dtype).removeprefix("torch.")
