"""PyTorch's ``.bin`` files, read with ``weights_only`` and without their data."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from mindcoder.checkpoint.stored_tensor import StoredTensor, item_size
from mindcoder.errors import UserError, single_line

DTYPES = {
    "torch.float64": "F64",
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.int64": "I64",
    "torch.int32": "I32",
    "torch.int16": "I16",
    "torch.int8": "I8",
    "torch.uint8": "U8",
    "torch.bool": "BOOL",
}


def list_torch(file: Path) -> dict[str, StoredTensor]:
    """Every tensor of a file, with the offset of its bytes (the zip stores them uncompressed).

    Raises:
        UserError: PyTorch is missing, or the file is damaged or holds more than tensors.
    """
    try:
        import torch
    except ImportError:
        raise UserError(
            "reading .bin files needs PyTorch: pip install torch, or convert to safetensors elsewhere", file
        ) from None
    _check_stored(file)
    try:
        state = torch.load(file, map_location="meta", weights_only=True)
    except Exception as error:
        reason = single_line((str(error).strip().splitlines() or [type(error).__name__])[0], 200)
        raise UserError(f"cannot be read safely as PyTorch weights: {reason}", file) from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items()
    ):
        raise UserError("holds something other than a dictionary of tensors", file)
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise UserError(f"tensor {name} is sparse or quantized, which is not read", file)
    if any(getattr(tensor.untyped_storage(), "_checkpoint_offset", None) is None for tensor in state.values()):
        return _load_old_format(file, torch)
    size = file.stat().st_size
    tensors = {name: _lazy_tensor(name, file, tensor) for name, tensor in state.items()}
    for tensor in tensors.values():
        if tensor.nbytes > size:  # strides of 0 make a large tensor from few bytes
            raise UserError(f"tensor {tensor.name} of shape {tensor.shape} is larger than the file", file)
        if any(offset + count > size for offset, count in tensor.extents):
            raise UserError(f"is truncated: tensor {tensor.name} ends beyond the file", file)
    return tensors


def _check_stored(file: Path) -> None:
    """Check that the zip's members are uncompressed: tensors are read at their offset in the zip.

    Raises:
        UserError: one is compressed, which PyTorch does not do.
    """
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            packed = next((item.filename for item in archive.infolist() if item.compress_type != 0), None)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"is not a valid PyTorch file: {single_line(str(error), 200)}", file) from None
    if packed is not None:
        raise UserError(f"member {packed[:60]!r} is compressed, which PyTorch's files are not", file)


def _lazy_tensor(name: str, file: Path, tensor: Any) -> StoredTensor:
    dtype = _dtype(name, file, tensor)
    size = item_size(dtype)
    begin = tensor.untyped_storage()._checkpoint_offset + tensor.storage_offset() * size
    if tensor.is_contiguous():
        return StoredTensor(name, file, dtype, tuple(tensor.shape), ((begin, tensor.numel() * size),))
    last = sum((length - 1) * step for length, step in zip(tensor.shape, tensor.stride()))
    extents = ((begin, (last + 1) * size),)
    return StoredTensor(name, file, dtype, tuple(tensor.shape), extents, tuple(tensor.stride()))


def _load_old_format(file: Path, torch: Any) -> dict[str, StoredTensor]:
    """Load files from before PyTorch 1.6, which are not a zip and have to be loaded whole."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"is not a valid PyTorch file: {single_line(str(error), 200)}", file) from None
    if isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    tensors = {}
    for name, tensor in state.items():
        dtype = _dtype(name, file, tensor)
        values = tensor.contiguous()
        values = (values.view(torch.uint16) if dtype == "BF16" else values).numpy()
        tensors[name] = StoredTensor(name, file, dtype, tuple(tensor.shape), loaded=values)
    return tensors


def _dtype(name: str, file: Path, tensor: Any) -> str:
    if str(tensor.dtype) not in DTYPES:
        raise UserError(f"tensor {name} has dtype {tensor.dtype}, expected one of {', '.join(DTYPES)}", file)
    return DTYPES[str(tensor.dtype)]
