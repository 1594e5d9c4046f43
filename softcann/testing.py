"""Calls of single operators from PyTorch tensors, without MindSpore: what the tests of ``softcann/operators`` use.

    run("aclnnAdd", x, y, Scalar(1.0), out)     # out is a torch tensor and is written

A tensor goes to the emulator with its own strides, so a view tests a strided operand. Run it in a process that does not
import MindSpore for Ascend; the library is loaded by ctypes.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from softcann.build import LIBRARIES, build

# aclDataType of the CANN application API.
NUMBERS = {torch.float32: 0, torch.float16: 1, torch.int8: 2, torch.int32: 3, torch.uint8: 4, torch.int16: 6}
NUMBERS |= {torch.uint16: 7, torch.uint32: 8, torch.int64: 9, torch.uint64: 10, torch.float64: 11, torch.bool: 12}
NUMBERS |= {torch.bfloat16: 27}
FORMAT_ND = 2


class Refused(Exception):
    """The operator refused its arguments, or failed; the message is aclGetRecentErrMsg's."""


@dataclass(frozen=True)
class Scalar:
    """An aclScalar; a float is float32, an int int64 and a bool bool unless ``dtype`` says otherwise."""

    value: float | int | bool
    dtype: torch.dtype | None = None


@functools.cache
def library() -> ctypes.CDLL:
    """The built library; builds it where it is out of date."""
    build()
    loaded = ctypes.CDLL(str(LIBRARIES / "libascendcl.so"), mode=ctypes.RTLD_GLOBAL)
    for name in ("Tensor", "Scalar", "IntArray", "FloatArray", "BoolArray", "TensorList"):
        getattr(loaded, f"aclCreate{name}").restype = ctypes.c_void_p
    loaded.aclGetRecentErrMsg.restype = ctypes.c_char_p
    loaded.aclrtSetDevice(0)
    return loaded


def integers(values: Sequence[int]) -> Any:
    return (ctypes.c_int64 * max(1, len(values)))(*values)


class Call:
    """One call: its objects on the device, and the torch tensors that they are copies of."""

    def __init__(self) -> None:
        self.storages: dict[int, tuple[torch.Tensor, ctypes.c_void_p]] = {}
        self.objects: list[tuple[str, Any]] = []
        self.alive: list[Any] = []

    def address(self, tensor: torch.Tensor) -> ctypes.c_void_p:
        """Device memory with the bytes of the tensor's storage; views of one storage share it."""
        storage = tensor.untyped_storage()
        key = storage.data_ptr()
        if key not in self.storages or storage.nbytes() == 0:
            address = ctypes.c_void_p()
            library().aclrtMalloc(ctypes.byref(address), ctypes.c_size_t(max(1, storage.nbytes())), 0)
            ctypes.memmove(address, key, storage.nbytes())
            self.storages[key] = (tensor, address)
        return self.storages[key][1]

    def created(self, kind: str, value: int) -> ctypes.c_void_p:
        self.objects.append((kind, ctypes.c_void_p(value)))
        return ctypes.c_void_p(value)

    def tensor(self, tensor: torch.Tensor) -> ctypes.c_void_p:
        rank, storage = tensor.dim(), tensor.untyped_storage()
        shape, strides = integers(tensor.shape), integers(tensor.stride())
        size = integers([int(storage.nbytes()) // tensor.element_size()])
        value = library().aclCreateTensor(
            shape, ctypes.c_uint64(rank), NUMBERS[tensor.dtype], strides, ctypes.c_int64(int(tensor.storage_offset())),
            FORMAT_ND, size, ctypes.c_uint64(1), self.address(tensor),
        )  # fmt: skip
        return self.created("Tensor", value)

    def scalar(self, scalar: Scalar) -> ctypes.c_void_p:
        plain = {bool: torch.bool, int: torch.int64, float: torch.float32}[type(scalar.value)]
        held = torch.tensor(scalar.value, dtype=scalar.dtype or plain)
        return self.created("Scalar", library().aclCreateScalar(ctypes.c_void_p(held.data_ptr()), NUMBERS[held.dtype]))

    def sequence(self, values: Sequence[Any]) -> ctypes.c_void_p:
        count = ctypes.c_uint64(len(values))
        if values and all(isinstance(value, torch.Tensor) for value in values):
            tensors = (ctypes.c_void_p * len(values))(*[self.tensor(value).value for value in values])
            # The list owns its tensors, as in CANN.
            self.objects = [item for item in self.objects if item[1].value not in list(tensors)]
            return self.created("TensorList", library().aclCreateTensorList(tensors, count))
        if values and all(isinstance(value, bool) for value in values):
            return self.created(
                "BoolArray", library().aclCreateBoolArray((ctypes.c_bool * len(values))(*values), count)
            )
        return self.created("IntArray", library().aclCreateIntArray(integers(values), count))

    def argument(self, value: Any) -> Any:
        """The C argument for a Python value."""
        if value is None:
            return ctypes.c_void_p()
        if isinstance(value, torch.Tensor):
            return self.tensor(value)
        if isinstance(value, Scalar):
            return self.scalar(value)
        if isinstance(value, torch.dtype):
            return ctypes.c_int32(NUMBERS[value])
        if isinstance(value, bool):
            return ctypes.c_bool(value)
        if isinstance(value, int):
            return ctypes.c_int64(value)
        if isinstance(value, float):
            return ctypes.c_double(value)
        if isinstance(value, str):
            return ctypes.c_char_p(value.encode())
        if isinstance(value, (list, tuple)):
            return self.sequence(value)
        return value  # a ctypes value: int8_t, int, float

    def finish(self) -> None:
        """Copies every storage back and frees what was made."""
        for tensor, address in self.storages.values():
            storage = tensor.untyped_storage()
            ctypes.memmove(storage.data_ptr(), address, storage.nbytes())
            library().aclrtFree(address)
        for kind, value in self.objects:
            getattr(library(), f"aclDestroy{kind}")(value)


def check(code: int) -> None:
    if code != 0:
        message = library().aclGetRecentErrMsg()
        raise Refused(f"{code}: {(message or b'').decode()}")


def run(name: str, *arguments: Any) -> None:
    """Prepares and runs operator ``name``; outputs among the tensors are written.

    Raises:
        Refused: a documented constraint is broken, or the operator failed when it ran.
    """
    call = Call()
    try:
        passed = [call.argument(value) for value in arguments]
        workspace, executor = ctypes.c_uint64(), ctypes.c_void_p()
        check(getattr(library(), f"{name}GetWorkspaceSize")(*passed, ctypes.byref(workspace), ctypes.byref(executor)))
        check(getattr(library(), name)(ctypes.c_void_p(), workspace, executor, ctypes.c_void_p()))
    finally:
        call.finish()
