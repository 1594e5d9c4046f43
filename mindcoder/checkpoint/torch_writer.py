"""PyTorch's ``.bin`` files, written without PyTorch and without holding more than one tensor.

The format is that of ``torch.save`` since PyTorch 1.6: a zip whose members are stored uncompressed. ``data.pkl`` holds
a dictionary of tensors that refer to their storages by number, ``data/N`` the bytes of storage N (pytorch/pytorch,
torch/serialization.py). The pickle is built from the few opcodes that it needs, so that no PyTorch class has to be
importable here, and ``torch.load(file, weights_only=True)`` reads it.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.stored_tensor import COPY_BYTES, Progress, no_progress

STORAGES = {
    "F64": "DoubleStorage",
    "F32": "FloatStorage",
    "F16": "HalfStorage",
    "BF16": "BFloat16Storage",
    "I64": "LongStorage",
    "I32": "IntStorage",
    "I16": "ShortStorage",
    "I8": "CharStorage",
    "U8": "ByteStorage",
    "BOOL": "BoolStorage",
}
ROOT = "archive"  # name of the folder inside the zip, as torch.save uses for an unnamed file
FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date of the zip format, fixed so that equal weights give equal files

# Opcodes of the pickle protocol 2 (Python's pickletools names them).
PROTO_2, STOP, MARK, TUPLE, EMPTY_TUPLE, REDUCE = b"\x80\x02", b".", b"(", b"t", b")", b"R"
EMPTY_DICT, SET_ITEMS, PERSISTENT, FALSE = b"}", b"u", b"Q", b"\x89"


def write_torch(
    plans: Sequence[TensorPlan],
    file: Path,
    progress: Progress = no_progress,
    tied: Mapping[str, str] | None = None,
) -> None:
    """Write a dictionary of tensors.

    Args:
        plans: the tensors, in the dictionary's order.
        file: the file to create.
        progress: called with the number of bytes done.
        tied: further names -> the tensor of ``plans`` with which each shares its storage.
    """
    with zipfile.ZipFile(file, "x", zipfile.ZIP_STORED) as archive:
        archive.writestr(_member("data.pkl"), _pickled(plans, tied or {}))
        archive.writestr(_member("byteorder"), "little")
        for number, plan in enumerate(plans):
            data = np.ascontiguousarray(plan.read()).reshape(-1).view(np.uint8).data
            with archive.open(_member(f"data/{number}"), "w", force_zip64=len(data) >= 2**31) as stream:
                for start in range(0, len(data), COPY_BYTES):
                    progress(stream.write(data[start : start + COPY_BYTES]))
        archive.writestr(_member("version"), "3\n")


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{ROOT}/{name}", FIRST_DATE)


def _pickled(plans: Sequence[TensorPlan], tied: Mapping[str, str]) -> bytes:
    """``data.pkl``: ``{name: torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())}``."""
    out = io.BytesIO()
    out.write(PROTO_2 + EMPTY_DICT + MARK)
    entries = [(plan.name, number, plan) for number, plan in enumerate(plans)]
    known = {name: (number, plan) for name, number, plan in entries}
    for name, number, plan in [*entries, *((name, *known[shared]) for name, shared in tied.items())]:
        storage = (
            MARK
            + _text("storage")
            + _global("torch", STORAGES[plan.dtype])
            + _text(str(number))
            + _text("cpu")
            + _integer(math.prod(plan.shape))
            + TUPLE
            + PERSISTENT
        )
        strides = [math.prod(plan.shape[axis + 1 :]) for axis in range(len(plan.shape))]
        hooks = _global("collections", "OrderedDict") + EMPTY_TUPLE + REDUCE
        arguments = storage + _integer(0) + _integers(plan.shape) + _integers(strides) + FALSE + hooks
        out.write(_text(name) + _global("torch._utils", "_rebuild_tensor_v2") + MARK + arguments + TUPLE + REDUCE)
    out.write(SET_ITEMS + STOP)
    return out.getvalue()


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
    if value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def _integers(values: Sequence[int]) -> bytes:
    return MARK + b"".join(map(_integer, values)) + TUPLE
