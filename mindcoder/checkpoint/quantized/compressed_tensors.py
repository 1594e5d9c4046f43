"""compressed-tensors (llm-compressor's format, which vLLM and transformers read): ``quantization_config`` in
``config.json``.

Weight-only integers are ``pack-quantized``: ``weight_packed`` int32, ``weight_scale`` ``[out, groups]``,
``weight_shape`` int64 ``[2]``, and ``weight_zero_point`` int32, packed along the outputs, if they are asymmetric. With
8 bits they may also be ``int-quantized``: ``weight`` int8 and ``weight_zero_point`` int8 as they are; always so where
activations become integers, too: each token by a scale of its own, or all by ``input_scale`` and ``input_zero_point``
``[1]``. W = (weight - zero_point) * weight_scale.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindcoder.checkpoint.huggingface import config_of, list_folder
from mindcoder.checkpoint.quantized.activations import with_dynamic_input, with_static_input
from mindcoder.checkpoint.quantized.format import DYNAMIC, STATIC, Integers
from mindcoder.checkpoint.quantized.keys import ANY, Known, check_keys, expect_form
from mindcoder.checkpoint.quantized.kv_tensors import KvTensors, find_attention_scales
from mindcoder.checkpoint.quantized.packing import SIGN_OF_BYTE, WORD_BITS, from_words
from mindcoder.checkpoint.quantized.tensors import QuantizedTensor, reformed
from mindcoder.checkpoint.quantized.weights import QuantizedWeights, check_quantized, folder_of, module_parts
from mindcoder.checkpoint.stored_tensor import FLOAT_DTYPES, StoredTensor
from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TransformerConfig

METHOD = "compressed-tensors"
CONFIG_KEY = "quantization_config"
PACKED, INTEGERS = "pack-quantized", "int-quantized"
RE = "re:"  # before a regular expression of modules
TENSOR, HEAD = "tensor", "attn_head"  # what has a scale of its own
CACHE_KEY = "kv_cache_scheme"
# Keys, and the values that are implemented, see `check_keys`.
OF_CONFIG: Known = {
    "quant_method": (METHOD,),
    "format": (PACKED, INTEGERS),
    "quantization_status": ("compressed", "frozen"),
    "config_groups": (ANY,),
    "ignore": (ANY,),
    "global_compression_ratio": (ANY,),
    "version": (ANY,),
    "kv_cache_scheme": (ANY,),
    "sparsity_config": (None, {}),
    "transform_config": (None, {}),
    "moe_sparsity_config": (None,),
}
OF_GROUP: Known = {
    "targets": (ANY,),
    "weights": (ANY,),
    "format": (None, PACKED, INTEGERS),
    "input_activations": (ANY,),
    "output_activations": (None,),
}
OF_WEIGHTS: Known = {
    "num_bits": (4, 8),
    "type": ("int",),
    "symmetric": (True, False),
    "strategy": ("group", "channel"),
    "group_size": (ANY,),
    "block_structure": (None,),
    "dynamic": (False,),
    "actorder": (None, False, "weight", "static"),  # the others permute inputs
    "observer": (ANY,),
    "observer_kwargs": (ANY,),
    "scale_dtype": (ANY,),
    "zp_dtype": (ANY,),
}
OF_INPUTS: Known = {
    **OF_WEIGHTS,
    "num_bits": (8,),
    "strategy": ("token", TENSOR),
    "group_size": (None,),
    "dynamic": (True, False),
    "actorder": (None,),
}


OF_CACHE: Known = {**OF_INPUTS, "symmetric": (True,), "strategy": (TENSOR, HEAD), "dynamic": (False,)}


@dataclass(frozen=True, kw_only=True)
class CompressedTensorsWeights(QuantizedWeights):
    """A Hugging Face folder in this format."""

    kind = METHOD
    title = "compressed-tensors folder"


@dataclass(frozen=True)
class Group:
    """A group of modules that are stored alike.

    Attributes:
        targets: names of modules, ``re:`` expressions, or ``Linear``.
        form: `PACKED` or `INTEGERS`.
        has_input_offset: whether static activations have an offset.
    """

    targets: tuple[str, ...]
    integers: Integers
    form: str
    has_input_offset: bool = False

    def rank(self, module: str) -> int:
        """How precisely the group names a module: 3 by its name, 2 by an expression, 1 as a linear layer, 0 not."""
        if module in self.targets:
            return 3
        if any(target.startswith(RE) and re.match(target.removeprefix(RE), module) for target in self.targets):
            return 2
        return int("Linear" in self.targets)


def open_compressed_tensors(path: Path, values: dict[str, Any]) -> CompressedTensorsWeights:
    """Open a folder with ``quantization_config``.

    Args:
        values: its ``config.json``.

    Raises:
        UserError: it is damaged, or uses something that is not implemented.
    """
    file = path / "config.json"
    values = dict(values)
    description = values.pop(CONFIG_KEY)
    groups = _groups(description, file)
    tensors, kv_tensors = _split_cache(description, list_folder(path), config_of(values, file), file)
    quantized: dict[str, QuantizedTensor] = {}
    used: set[str] = set()
    for module in dict.fromkeys(name.rpartition(".")[0] for name, item in tensors.items() if _is_mark(name, item)):
        group = _group_of(module, groups)
        if group is None:
            raise UserError(f"{module}: no group of {CONFIG_KEY}.config_groups has this module as a target", file)
        parts = module_parts(module, _parts(group), tensors, f"{group.form}, {group.integers}", path)
        quantized[module] = _module(parts, group)
        used |= {tensor.name for tensor in parts.values()}
    _check_ignored(description.get("ignore"), quantized, file)
    return CompressedTensorsWeights(**folder_of(path, values, tensors, used, quantized), kv_tensors=kv_tensors)


def _split_cache(
    description: Mapping[str, Any], tensors: Mapping[str, StoredTensor], config: TransformerConfig, file: Path
) -> tuple[dict[str, StoredTensor], dict[int, KvTensors]]:
    """The tensors without those of the KV cache, and the latter by layer."""
    scheme, where = description.get(CACHE_KEY), f"{CONFIG_KEY}.{CACHE_KEY}"
    if scheme is None:
        return dict(tensors), {}
    check_keys(scheme, OF_CACHE, where, file)
    kv_tensors = find_attention_scales(tensors, config, scheme.get("strategy", TENSOR) == HEAD, file.parent)
    own = {tensor.name for item in kv_tensors.values() for tensor in item.scales}
    return {name: tensor for name, tensor in tensors.items() if name not in own}, kv_tensors


def _is_mark(name: str, tensor: StoredTensor) -> bool:
    """Whether only quantized modules have such a tensor."""
    return name.endswith((".weight_packed", ".weight_scale")) or (name.endswith(".weight") and tensor.dtype == "I8")


def _check_ignored(ignored: Any, quantized: Mapping[str, QuantizedTensor], file: Path) -> None:
    """Refuse an ``ignore`` that is not a list of names, or that names a module which is quantized nevertheless."""
    where = f"{CONFIG_KEY}.ignore"
    if ignored is None:
        return
    if not isinstance(ignored, list) or not all(isinstance(item, str) for item in ignored):
        raise UserError(f"{where}: found {ignored!r:.60}, expected a list of names", file)
    for item in ignored:
        expression = _expression(item, where, file)
        found = next((name for name in quantized if name == item or (expression and expression.match(name))), None)
        if found is not None:
            raise UserError(f"{where} has {item!r:.60}, but {found} is quantized", file)


def _expression(item: str, where: str, file: Path) -> re.Pattern[str] | None:
    """What follows ``re:``; None of a plain name.

    Raises:
        UserError: it is not a regular expression.
    """
    if not item.startswith(RE):
        return None
    try:
        return re.compile(item.removeprefix(RE))
    except re.error as error:
        raise UserError(f"{where}: {item!r:.60} is not a regular expression: {error}", file) from None


def _group_of(module: str, groups: Sequence[Group]) -> Group | None:
    """The group that names a module most precisely; None if none does."""
    ranks = [group.rank(module) for group in groups]
    return groups[ranks.index(max(ranks))] if any(ranks) else None


def _groups(found: Any, file: Path) -> list[Group]:
    where = CONFIG_KEY
    check_keys(found, OF_CONFIG, where, file)
    if not isinstance(found.get("config_groups"), Mapping) or not found["config_groups"]:
        raise UserError(f"{where}.config_groups: expected an object of groups", file)
    return [
        _group(group, f"{where}.config_groups.{name}", found.get("format", PACKED), file)
        for name, group in found["config_groups"].items()
    ]


def _group(found: Any, where: str, form: str, file: Path) -> Group:
    check_keys(found, OF_GROUP, where, file)
    targets, weights = found.get("targets"), found.get("weights")
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        raise UserError(f"{where}.targets: expected a list of names", file)
    for target in targets:
        _expression(target, f"{where}.targets", file)
    check_keys(weights, OF_WEIGHTS, f"{where}.weights", file)
    size = weights.get("group_size") or 0
    if type(size) is not int:
        raise UserError(f"{where}.weights.group_size: found {size!r:.40}, expected a whole number", file)
    if (weights.get("strategy", "group" if size else "channel") == "group") != (size > 0):
        raise UserError(f"{where}.weights: strategy {weights.get('strategy')} with group_size {size!r:.20}", file)
    form, bits = found.get("format") or form, weights.get("num_bits", 8)
    if form == INTEGERS and bits != 8:
        raise UserError(f"{where}.weights: num_bits {bits} as {INTEGERS} is not implemented; expected 8", file)
    inputs = found.get("input_activations")
    if inputs is None:
        return Group(tuple(targets), Integers(bits, weights.get("symmetric", True), size), form)
    activations = _activations(inputs, f"{where}.input_activations", file)
    if form != INTEGERS or size or not weights.get("symmetric", True):
        raise UserError(
            f"{where}: input_activations with weights in groups, with zero points or {PACKED} are not implemented; "
            f"expected symmetric weights with strategy channel, {INTEGERS}",
            file,
        )
    return Group(tuple(targets), Integers(8, activations=activations), form, not inputs.get("symmetric", True))


def _activations(found: Any, where: str, file: Path) -> str:
    """Which of `Integers.activations` these are."""
    check_keys(found, OF_INPUTS, where, file)
    dynamic = found.get("dynamic", False)
    strategy = found.get("strategy", "token" if dynamic else "tensor")
    if (strategy == "token") != dynamic or (dynamic and not found.get("symmetric", True)):
        raise UserError(
            f"{where}: strategy {strategy} with dynamic {dynamic}, symmetric {found.get('symmetric', True)} is not "
            "implemented; expected token, dynamic and symmetric, or tensor and not dynamic",
            file,
        )
    return DYNAMIC if dynamic else STATIC


def _parts(group: Group) -> list[str]:
    """Names of a module's tensors."""
    names = ["weight_packed", "weight_shape"] if group.form == PACKED else ["weight"]
    names += ["weight_scale", *([] if group.integers.symmetric else ["weight_zero_point"])]
    if group.integers.activations == STATIC:
        names += ["input_scale", *(["input_zero_point"] if group.has_input_offset else [])]
    return names


def _module(parts: Mapping[str, StoredTensor], group: Group) -> QuantizedTensor:
    """The integers of a module as the network keeps them.

    Raises:
        UserError: its tensors do not fit each other.
    """
    bits, scale = group.integers.bits, parts["weight_scale"]
    if group.form == INTEGERS:
        weight = parts["weight"]
        expect_form(weight, "I8", None)
        rows, columns = weight.shape if len(weight.shape) == 2 else (0, 0)
    else:
        expect_form(parts["weight_shape"], "I64", (2,))
        rows, columns = map(int, parts["weight_shape"].read())
        words = parts["weight_packed"]
        expect_form(words, "I32", (rows, -(-columns * bits // WORD_BITS)))
        if bits == 4 and columns % 2:
            raise UserError(f"{words.name}: {columns} inputs of 4 bits are not whole bytes", words.file)
        octets = columns * bits // 8
        as_bytes = StoredTensor(words.name, words.file, "U8", (rows, words.shape[1] * 4), words.extents)
        weight = reformed(
            as_bytes,
            "I8" if bits == 8 else "U8",
            (rows, octets),
            _signed_bytes(octets) if bits == 8 else lambda packed: packed[:, :octets],
        )
    groups = group.integers.groups(columns)
    if scale.dtype not in FLOAT_DTYPES or scale.shape != (rows, groups):
        raise UserError(
            f"{scale.name} is {scale.dtype} {list(scale.shape)}, expected a float dtype and [{rows}, {groups}]",
            scale.file,
        )
    tensor = QuantizedTensor(weight, scale, _offset(parts.get("weight_zero_point"), group, rows, groups))
    check_quantized(tensor)
    if group.integers.activations == DYNAMIC:
        return with_dynamic_input(tensor)
    if group.integers.activations == STATIC:
        return with_static_input(tensor, parts["input_scale"], parts.get("input_zero_point"))
    return tensor


def _signed_bytes(columns: int) -> Callable[[np.ndarray], np.ndarray]:
    """From bytes with 128 added, and what fills up the last word, to int8."""
    return lambda packed: np.ascontiguousarray(packed[:, :columns] ^ SIGN_OF_BYTE).view(np.int8)


def _offset(stored: StoredTensor | None, group: Group, rows: int, groups: int) -> StoredTensor | None:
    if stored is None:
        return None
    bits = group.integers.bits
    if group.form == INTEGERS:
        expect_form(stored, "I8", (rows, groups))
        return reformed(stored, "F32", (rows, groups), lambda numbers: numbers.astype(np.float32))
    expect_form(stored, "I32", (-(-rows * bits // WORD_BITS), groups))
    return reformed(
        stored,
        "F32",
        (rows, groups),
        lambda words: from_words(words.T, bits, rows).T.astype(np.float32),
        row_wise=False,
    )
