"""bitsandbytes' folders in NF4, as transformers saves a model that was loaded with ``load_in_4bit``.

``quantization_config`` in ``config.json``. A module has ``weight`` uint8 ``[out * in / 2, 1]``, ``weight.absmax``,
``weight.quant_map`` (the 16 numbers of codes) and ``weight.quant_state.bitsandbytes__nf4``, bytes of JSON; with double
quantization also ``weight.nested_absmax`` and ``weight.nested_quant_map``. The numbers are those of
`mindcoder.backend.nf4`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindcoder.backend.nf4 import BLOCK, CODES, SCALE_BLOCK, scale_numbers
from mindcoder.checkpoint.huggingface import list_folder
from mindcoder.checkpoint.quantized.keys import ANY, Known, check_keys, expect_form
from mindcoder.checkpoint.quantized.nf4_tensor import Nf4Tensor
from mindcoder.checkpoint.quantized.weights import QuantizedWeights, folder_of, module_parts
from mindcoder.checkpoint.stored_tensor import StoredTensor
from mindcoder.errors import UserError
from mindcoder.files import parse_json

METHOD, KIND = "bitsandbytes", "nf4"
CONFIG_KEY = "quantization_config"
STATE = "weight.quant_state.bitsandbytes__"
STATE_LIMIT = 1 << 16  # bytes
CLOSE = 1e-6  # of numbers that are at most 1: another version may have rounded otherwise
BLOCKS = (32, BLOCK, 128, 256, 512, 1024, 2048, 4096)
OF_CONFIG: Known = {
    "quant_method": (METHOD,),
    "load_in_4bit": (True,),
    "_load_in_4bit": (True,),
    "load_in_8bit": (False,),
    "_load_in_8bit": (False,),
    "bnb_4bit_quant_type": (KIND,),
    "bnb_4bit_use_double_quant": (True, False),
    "bnb_4bit_compute_dtype": (ANY,),
    "bnb_4bit_quant_storage": ("uint8",),
    "llm_int8_skip_modules": (ANY,),
    "llm_int8_threshold": (ANY,),
    "llm_int8_has_fp16_weight": (False,),
    "llm_int8_enable_fp32_cpu_offload": (ANY,),
}
OF_STATE: Known = {
    "quant_type": (KIND,),
    "blocksize": BLOCKS,
    "dtype": ("float32", "float16", "bfloat16"),
    "shape": (ANY,),
    "nested_blocksize": (SCALE_BLOCK,),
    "nested_dtype": ("float32",),
    "nested_offset": (ANY,),
}


@dataclass(frozen=True, kw_only=True)
class BitsAndBytesWeights(QuantizedWeights):
    """A Hugging Face folder in this format."""

    kind = METHOD
    title = "bitsandbytes folder"

    quantized: Mapping[str, Nf4Tensor]


def open_bitsandbytes(path: Path, values: dict[str, Any]) -> BitsAndBytesWeights:
    """Open a folder with ``quantization_config``; arguments as of
    `mindcoder.checkpoint.quantized.compressed_tensors.open_compressed_tensors`.

    Raises:
        UserError: it is damaged, or uses something that is not implemented.
    """
    values = dict(values)
    settings = values.pop(CONFIG_KEY)
    check_keys(settings, OF_CONFIG, CONFIG_KEY, path / "config.json")
    if settings.get("load_in_4bit") is not True:
        raise UserError(
            f"{CONFIG_KEY}.load_in_4bit is missing; of {METHOD}, {KIND} is implemented", path / "config.json"
        )
    tensors = list_folder(path)
    modules = [name.removesuffix(f".{STATE}{KIND}") for name in tensors if name.endswith(f".{STATE}{KIND}")]
    other = next((name for name in tensors if f".{STATE}" in name and not name.endswith(f"__{KIND}")), None)
    if other is not None:
        raise UserError(f"{other}: {other.rpartition('__')[2]} is not implemented; expected {KIND}", path)
    quantized, used = {}, set()
    for module in modules:
        quantized[module], own = _module(module, tensors, path)
        used |= {tensor.name for tensor in own.values()}
    return BitsAndBytesWeights(**folder_of(path, values, tensors, used, quantized))


def _module(module: str, tensors: Mapping[str, StoredTensor], path: Path) -> tuple[Nf4Tensor, dict[str, StoredTensor]]:
    """A module's codes, and all of its tensors by their names within it.

    Raises:
        UserError: its tensors do not fit each other.
    """
    parts = module_parts(module, (f"{STATE}{KIND}", "weight", "weight.absmax", "weight.quant_map"), tensors, KIND, path)
    state = _state(parts[f"{STATE}{KIND}"])
    nested = "nested_offset" in state
    if nested:
        names = ("weight.nested_absmax", "weight.nested_quant_map")
        parts |= module_parts(module, names, tensors, f"{KIND}, double quantization", path)
    where, (outputs, inputs) = parts[f"{STATE}{KIND}"], state["shape"]
    count, block = outputs * inputs, state.get("blocksize", BLOCK)
    blocks = -(-count // block)
    _expect_count(parts["weight"], "U8", -(-count // 2))
    _expect_count(parts["weight.absmax"], "U8" if nested else "F32", blocks)
    _expect_numbers(parts["weight.quant_map"], CODES, KIND)
    above = None
    if nested:
        above = parts["weight.nested_absmax"]
        expect_form(above, "F32", (-(-blocks // SCALE_BLOCK),))
        _expect_numbers(parts["weight.nested_quant_map"], scale_numbers(), "bitsandbytes' dynamic type")
        if type(state["nested_offset"]) is not float or not math.isfinite(state["nested_offset"]):
            raise UserError(
                f"{where.name}: nested_offset: expected a number, found {state['nested_offset']!r}", where.file
            )
    tensor = Nf4Tensor(
        (outputs, inputs), block, parts["weight"], parts["weight.absmax"], above, state.get("nested_offset", 0.0)
    )
    return tensor, parts


def _state(stored: StoredTensor) -> dict[str, Any]:
    """The JSON in a tensor of bytes, with a shape of two sizes."""
    if stored.dtype != "U8" or len(stored.shape) != 1 or stored.shape[0] > STATE_LIMIT:
        raise UserError(f"{stored.name} is {stored.dtype} {list(stored.shape)}, expected bytes of JSON", stored.file)
    try:
        state = parse_json(stored.read().tobytes().decode("utf-8"), f"{stored.file}, {stored.name}")
    except UnicodeDecodeError:
        raise UserError(f"{stored.name}: expected JSON in UTF-8", stored.file) from None
    check_keys(state, OF_STATE, stored.name, stored.file)
    shape = state.get("shape")
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(size) is int and size > 0 for size in shape):
        raise UserError(f"{stored.name}: shape: found {shape!r:.40}, expected [outputs, inputs]", stored.file)
    if "quant_type" not in state:
        raise UserError(f"{stored.name}: quant_type is missing", stored.file)
    return dict(state)


def _expect_count(tensor: StoredTensor, dtype: str, count: int) -> None:
    if tensor.dtype != dtype or math.prod(tensor.shape) != count:
        found = f"{tensor.dtype} {list(tensor.shape)}"
        raise UserError(f"{tensor.name} is {found}, expected {count} numbers of {dtype}", tensor.file)


def _expect_numbers(tensor: StoredTensor, numbers: np.ndarray, what: str) -> None:
    expect_form(tensor, "F32", numbers.shape)
    if not np.allclose(tensor.read(), numbers, rtol=0, atol=CLOSE):
        raise UserError(f"{tensor.name} has other numbers than {what}", tensor.file)


def state_bytes(shape: Sequence[int], dtype: str, offset: float) -> np.ndarray:
    """The JSON of a module with double quantization, uint8.

    Args:
        dtype: of the weight before, as torch names it.
        offset: of its scales.
    """
    state = {
        "quant_type": KIND,
        "blocksize": BLOCK,
        "dtype": dtype,
        "shape": list(shape),
        "nested_blocksize": SCALE_BLOCK,
        "nested_dtype": "float32",
        "nested_offset": offset,
    }
    return np.frombuffer(json.dumps(state).encode(), np.uint8)


def description(skipped: Sequence[str], dtype: str) -> dict[str, Any]:
    """``quantization_config`` of a folder that is written.

    Args:
        skipped: linear modules that stay in floating point.
        dtype: of the model, as torch names it.
    """
    return {
        "quant_method": METHOD,
        "load_in_4bit": True,
        "load_in_8bit": False,
        "bnb_4bit_quant_type": KIND,
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": dtype,
        "bnb_4bit_quant_storage": "uint8",
        "llm_int8_skip_modules": list(skipped),
        "llm_int8_threshold": 6.0,
        "llm_int8_has_fp16_weight": False,
        "llm_int8_enable_fp32_cpu_offload": False,
    }
