"""AWQ's folders (AutoAWQ's ``gemm`` form): ``quant_method: awq`` in ``config.json``; read only.

A module has ``qweight`` int32 ``[in, out / 8]``, ``qzeros`` int32 ``[groups, out / 8]`` and ``scales``
``[groups, out]``. Nibble j of a word holds output ``8 * word + ORDER[j]``, unsigned.
W[o, i] = (q[i, o] - zero[g, o]) * scale[g, o]; what was scaled for the sake of the activations is in the weights and
norms already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindcoder.checkpoint.huggingface import list_folder
from mindcoder.checkpoint.quantized.keys import ANY, Known, check_keys, expect_form
from mindcoder.checkpoint.quantized.module_lists import check_not_converted
from mindcoder.checkpoint.quantized.packing import pack_nibbles
from mindcoder.checkpoint.quantized.tensors import QuantizedTensor, reformed
from mindcoder.checkpoint.quantized.weights import QuantizedWeights, check_quantized, folder_of, modules_with
from mindcoder.checkpoint.stored_tensor import StoredTensor
from mindcoder.errors import UserError

METHOD = "awq"
CONFIG_KEY = "quantization_config"
PARTS = ("qweight", "qzeros", "scales")
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
PER_WORD = 8
NOT_CONVERTED = "modules_to_not_convert"
OF_CONFIG: Known = {
    "quant_method": (METHOD,),
    "bits": (4,),
    "w_bit": (4,),
    "group_size": (ANY,),
    "q_group_size": (ANY,),
    "zero_point": (True,),
    "version": ("gemm", "GEMM"),
    NOT_CONVERTED: (ANY,),
    "backend": (ANY,),
    "do_fuse": (False, None),
    "fuse_max_seq_len": (ANY,),
    "modules_to_fuse": (ANY,),
    "exllama_config": (ANY,),
}


@dataclass(frozen=True, kw_only=True)
class AwqWeights(QuantizedWeights):
    """A Hugging Face folder in this format."""

    kind = METHOD
    title = "AWQ folder"


def open_awq(path: Path, values: dict[str, Any]) -> AwqWeights:
    """Open a folder with ``quantization_config``; arguments as of
    `mindcoder.checkpoint.quantized.compressed_tensors.open_compressed_tensors`.

    Raises:
        UserError: it is damaged, or uses something that is not implemented.
    """
    file, values = path / "config.json", dict(values)
    settings = values.pop(CONFIG_KEY)
    check_keys(settings, OF_CONFIG, CONFIG_KEY, file)
    tensors = list_folder(path)
    modules = modules_with("qweight", PARTS, tensors, METHOD, path)
    check_not_converted(settings.get(NOT_CONVERTED), modules, f"{CONFIG_KEY}.{NOT_CONVERTED}", file)
    quantized = {module: _module(parts) for module, parts in modules.items()}
    used = {f"{module}.{part}" for module in modules for part in PARTS}
    return AwqWeights(**folder_of(path, values, tensors, used, quantized))


def _module(parts: Mapping[str, StoredTensor]) -> QuantizedTensor:
    """The integers of a module as the network keeps them.

    Raises:
        UserError: its tensors do not fit each other.
    """
    words, scales = parts["qweight"], parts["scales"]
    expect_form(words, "I32", None)
    if len(words.shape) != 2 or words.shape[0] % 2:
        raise UserError(f"{words.name} is {list(words.shape)}, expected [inputs, outputs / {PER_WORD}]", words.file)
    inputs, outputs = words.shape[0], words.shape[1] * PER_WORD
    if len(scales.shape) != 2 or scales.shape[1] != outputs:
        raise UserError(f"{scales.name} is {list(scales.shape)}, expected [groups, {outputs}]", scales.file)
    groups = scales.shape[0]
    expect_form(parts["qzeros"], "I32", (groups, words.shape[1]))
    tensor = QuantizedTensor(
        reformed(
            words, "U8", (outputs, inputs // 2), lambda given: pack_nibbles(_in_order(given).T.copy()), row_wise=False
        ),
        reformed(scales, scales.dtype, (outputs, groups), lambda given: given.T, row_wise=False),
        reformed(
            parts["qzeros"],
            "F32",
            (outputs, groups),
            lambda given: _in_order(given).T.astype(np.float32),
            row_wise=False,
        ),
    )
    check_quantized(tensor)
    return tensor


def _in_order(words: np.ndarray) -> np.ndarray:
    """Words ``[rows, out / 8]`` as signed numbers ``[rows, out]``: 8 less than stored, in the order of the outputs."""
    numbers = np.empty((*words.shape, PER_WORD), np.int8)
    unsigned = np.ascontiguousarray(words).view(np.uint32)
    for nibble, output in enumerate(ORDER):
        numbers[..., output] = ((unsigned >> np.uint32(4 * nibble)) & np.uint32(15)).astype(np.int8) - 8
    return numbers.reshape(len(words), -1)
