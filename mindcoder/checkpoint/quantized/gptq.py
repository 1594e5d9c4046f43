"""GPTQ's folders (AutoGPTQ, GPTQModel): ``quant_method: gptq`` in ``config.json``; read only.

A module has ``qweight`` int32 ``[in / p, out]`` with p = 32 / bits inputs a word, lowest bits first, unsigned;
``qzeros`` int32 ``[groups, out / p]``, packed along the outputs; ``scales`` ``[groups, out]``; and ``g_idx`` int32
``[in]``, the group of each input. ``checkpoint_format: gptq`` (version 1) stores zeros less one, ``gptq_v2`` as they
are. Where groups are not neighbouring inputs (``desc_act``), the weight is kept in floating point.
W[o, i] = (q[i, o] - zero[g_idx[i], o]) * scale[g_idx[i], o].
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindcoder.checkpoint.huggingface import list_folder
from mindcoder.checkpoint.quantized.keys import ANY, Known, check_keys, expect_form
from mindcoder.checkpoint.quantized.module_lists import check_in_block, module_bits
from mindcoder.checkpoint.quantized.packing import SIGN_OF_BYTE, WORD_BITS, from_words
from mindcoder.checkpoint.quantized.tensors import QuantizedTensor, reformed
from mindcoder.checkpoint.quantized.weights import QuantizedWeights, check_quantized, folder_of, modules_with
from mindcoder.checkpoint.stored_tensor import StoredTensor
from mindcoder.errors import UserError

METHOD = "gptq"
CONFIG_KEY = "quantization_config"
PARTS = ("qweight", "qzeros", "scales", "g_idx")
VERSION_2 = "gptq_v2"
# What says how the integers were found, or how other programs compute with them.
HARMLESS = """
    meta damp_percent damp_auto_increment static_groups true_sequential tokenizer dataset model_seqlen
    block_name_to_quantize module_name_preceding_first_block batch_size pad_token_id use_exllama max_input_length
    exllama_config cache_block_outputs backend use_cuda_fp16 model_name_or_path model_file_base_name quant_method mse
"""
IN_BLOCK, DYNAMIC = "modules_in_block_to_quantize", "dynamic"
log = logging.getLogger(__name__)

OF_CONFIG: Known = {
    "bits": (4, 8),
    "group_size": (ANY,),
    "desc_act": (True, False),
    "sym": (True, False),
    "lm_head": (False,),
    "checkpoint_format": ("gptq", VERSION_2),
    "pack_dtype": ("int32",),
    "is_marlin_format": (False,),
    **dict.fromkeys((IN_BLOCK, DYNAMIC, *HARMLESS.split()), (ANY,)),
}


@dataclass(frozen=True, kw_only=True)
class GptqWeights(QuantizedWeights):
    """A Hugging Face folder in this format."""

    kind = METHOD
    title = "GPTQ folder"


def open_gptq(path: Path, values: dict[str, Any]) -> GptqWeights:
    """Open a folder with ``quantization_config``; arguments as of
    `mindcoder.checkpoint.quantized.compressed_tensors.open_compressed_tensors`.

    Raises:
        UserError: it is damaged, or uses something that is not implemented.
    """
    file = path / "config.json"
    values = dict(values)
    settings = values.pop(CONFIG_KEY)
    check_keys(settings, OF_CONFIG, CONFIG_KEY, file)
    bits = settings.get("bits")
    if bits is None:
        raise UserError(f"{CONFIG_KEY}.bits is missing", file)
    tensors = list_folder(path)
    modules = modules_with("qweight", PARTS, tensors, f"{METHOD}, {bits} bits", path)
    is_version_2 = settings.get("checkpoint_format") == VERSION_2
    check_in_block(settings.get(IN_BLOCK), modules, f"{CONFIG_KEY}.{IN_BLOCK}", file)
    bits_of = module_bits(settings.get(DYNAMIC), modules, bits, f"{CONFIG_KEY}.{DYNAMIC}", file)
    quantized = {module: _module(parts, bits_of[module], is_version_2) for module, parts in modules.items()}
    used = {f"{module}.{part}" for module in modules for part in PARTS}
    ordered = sum(item.order is not None for item in quantized.values())
    if ordered:
        log.info("%s: %d modules group their inputs by activations and become floats", path, ordered)
    return GptqWeights(**folder_of(path, values, tensors, used, quantized))


def _module(parts: Mapping[str, StoredTensor], bits: int, as_they_are: bool) -> QuantizedTensor:
    """The integers of a module as the network keeps them.

    Args:
        as_they_are: whether zeros are stored so, else less one.

    Raises:
        UserError: its tensors do not fit each other.
    """
    words, scales = parts["qweight"], parts["scales"]
    per_word = WORD_BITS // bits
    expect_form(words, "I32", None)
    if len(words.shape) != 2 or not words.shape[0]:
        raise UserError(f"{words.name} is {list(words.shape)}, expected [inputs / {per_word}, outputs]", words.file)
    if len(scales.shape) != 2:
        raise UserError(f"{scales.name} is {list(scales.shape)}, expected [groups, {words.shape[1]}]", scales.file)
    inputs, outputs, groups = words.shape[0] * per_word, words.shape[1], scales.shape[0]
    expect_form(parts["qzeros"], "I32", (groups, -(-outputs // per_word)))
    expect_form(parts["g_idx"], "I32", (inputs,))
    if groups == 0 or inputs % groups or scales.shape[1] != outputs:
        raise UserError(f"{scales.name} is {list(scales.shape)}, expected [groups, {outputs}]", scales.file)
    order = parts["g_idx"]
    groups_of = order.read()
    if groups_of.min() < 0 or groups_of.max() >= groups:
        raise UserError(f"{order.name}: expected groups from 0 to {groups - 1}", order.file)
    neighbours = (groups_of == np.arange(inputs) // (inputs // groups)).all()
    columns = inputs * bits // 8
    weight = reformed(words, "I8" if bits == 8 else "U8", (outputs, columns), _by_outputs(bits), row_wise=False)
    offset = reformed(
        parts["qzeros"], "F32", (outputs, groups), _offsets(bits, outputs, 0 if as_they_are else 1), row_wise=False
    )
    scale = reformed(scales, scales.dtype, (outputs, groups), lambda given: given.T, row_wise=False)
    tensor = QuantizedTensor(weight, scale, offset, None if neighbours else order)
    check_quantized(tensor)
    return tensor


def _by_outputs(bits: int) -> Callable[[np.ndarray], np.ndarray]:
    """From words ``[in / p, out]`` to rows of outputs: signed bytes, or two numbers a byte with 8 added."""

    def turn(words: np.ndarray) -> np.ndarray:
        octets = np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape, 4)
        rows = octets.transpose(1, 0, 2).reshape(words.shape[1], -1)
        return (rows ^ SIGN_OF_BYTE).view(np.int8) if bits == 8 else rows

    return turn


def _offsets(bits: int, outputs: int, lowered: int) -> Callable[[np.ndarray], np.ndarray]:
    """From words ``[groups, out / p]`` of unsigned zeros to signed offsets ``[out, groups]``.

    Args:
        lowered: by how much zeros are stored too low; one of 0 is stored as the largest number.
    """
    half = 1 << (bits - 1)

    def turn(words: np.ndarray) -> np.ndarray:
        unsigned = from_words(words, bits, outputs).T.astype(np.int32) + half
        return ((unsigned + lowered) % (2 * half) - half).astype(np.float32)

    return turn
