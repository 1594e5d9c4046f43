"""msModelSlim's folders, which vllm-ascend and MindFormers read: ``quant_model_description.json`` beside the weights.

The description has the type of every tensor, ``FLOAT`` for those in floating point. A module of W8A16 has ``weight``
int8 ``[out, in]``, ``weight_scale`` and ``weight_offset`` ``[out, groups]``:
W = (weight - weight_offset) * weight_scale. One of W8A8_DYNAMIC has the same, without groups; what W8A8 and W8A8S have
is in `mindcoder.checkpoint.quantized.msmodelslim_static`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mindcoder.checkpoint.huggingface import CONFIG_LIMIT, config_of, list_shards
from mindcoder.checkpoint.quantized.activations import with_dynamic_input
from mindcoder.checkpoint.quantized.format import (
    DYNAMIC,
    STATIC,
    CacheShape,
    InputTensor,
    Integers,
    LayerShape,
    QuantizedFormat,
    SmallTensor,
    TensorForm,
    method_name,
)
from mindcoder.checkpoint.quantized.kv_tensors import (
    C8,
    OFFSET,
    SCALE,
    SUFFIXES,
    KvTensors,
    find_slim_tensors,
    slim_names,
)
from mindcoder.checkpoint.quantized.msmodelslim_static import PARTS as STATIC_PARTS
from mindcoder.checkpoint.quantized.msmodelslim_static import bias_of, static_module, static_tensors
from mindcoder.checkpoint.quantized.tensors import QuantizedTensor
from mindcoder.checkpoint.quantized.weights import QuantizedWeights, biased_modules, check_quantized, folder_of
from mindcoder.checkpoint.safetensors_file import list_safetensors
from mindcoder.checkpoint.stored_tensor import FLOAT_DTYPES, StoredTensor
from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.files import file_there, read_json_object

DESCRIPTION = "quant_model_description.json"
STEM = "quant_model_weights"
SINGLE_NAMES = (f"{STEM}.safetensors", "quant_model_weight.safetensors")  # the second is the older tool's
FLOAT, W8A16 = "FLOAT", method_name(8, "")
W8A8, W8A8_DYNAMIC = method_name(8, STATIC), method_name(8, DYNAMIC)
W8A8S = method_name(8, STATIC, is_sparse=True)  # stored as W8A8 is
PARTS = ("weight_scale", "weight_offset")
QUANTIZATION_CONFIG = "quantization_config"  # other tools' description, in config.json
# Type -> tensors of a module beside its weight; those of W8A8 and W8A8S may have PARTS, too, which say nothing new.
PARTS_OF = {W8A16: PARTS, W8A8_DYNAMIC: PARTS, W8A8: STATIC_PARTS, W8A8S: STATIC_PARTS}
ATB_NAMES = tuple(kind.lower() for kind in PARTS_OF)  # in the field "quantize" that ATB-Models wants in config.json
TIED_HEAD = ("lm_head.weight", FLOAT)  # listed though it is not a tensor of its own
# Keys of the description that are not tensors.
VERSION, MODEL_TYPE, GROUP_SIZE = "version", "model_quant_type", "group_size"
CACHE_TYPES = ("kv_cache_type", "kv_quant_type")
GLOBAL_KEYS = (MODEL_TYPE, VERSION, GROUP_SIZE, "metadata", "optional", *CACHE_TYPES)
CACHE_DIVISOR = np.float32(127)  # of a channel's largest magnitude
SMALLEST = np.float32(1e-10)  # magnitude of a channel by which numbers can be divided


@dataclass(frozen=True, kw_only=True)
class MsModelSlimWeights(QuantizedWeights):
    """A folder that msModelSlim has written."""

    kind = "msmodelslim"
    title = "msModelSlim folder"


def open_msmodelslim(path: Path) -> MsModelSlimWeights | None:
    """Open a folder; None if it is not one of msModelSlim.

    Raises:
        UserError: it is damaged, or has a type of weights that is not implemented.
    """
    file = path / DESCRIPTION
    if not path.is_dir() or not file_there(file):
        return None
    values = read_json_object(path / "config.json", CONFIG_LIMIT)
    if values.get("quantize") in ATB_NAMES:
        del values["quantize"]
    if QUANTIZATION_CONFIG in values:
        raise UserError(
            f"describes its quantization twice: in {DESCRIPTION}, and in {QUANTIZATION_CONFIG} of config.json; remove "
            "the one that is not of these weights",
            path,
        )
    tensors = _list_tensors(path)
    description = read_json_object(file)
    config = config_of(values, path / "config.json")
    tensors, kv_tensors = _split_cache(description, tensors, config, file)
    biased = biased_modules(config)
    quantized, used = _quantized(description, tensors, biased, file)
    static = [module for module, item in quantized.items() if item.activations == STATIC and module in biased]
    biases = {module: bias_of(tensors[f"{module}.weight"], _parts(module, W8A8, tensors, file)) for module in static}
    return MsModelSlimWeights(**folder_of(path, values, tensors, used, quantized, biases), kv_tensors=kv_tensors)


def _split_cache(
    description: dict[str, Any], tensors: Mapping[str, StoredTensor], config: TransformerConfig, file: Path
) -> tuple[dict[str, StoredTensor], dict[int, KvTensors]]:
    """The tensors without those of the KV cache, whose keys leave the description, and the latter by layer.

    Raises:
        UserError: the cache's type is not implemented, or it has no scales although it is said to be in integers.
    """
    types = {key: description[key] for key in CACHE_TYPES if description.get(key)}
    for key, kind in types.items():
        if kind != C8:
            raise UserError(f"{key} {kind!r:.40} is not implemented; expected {C8}", file)
    scales = [name for name in tensors if name.endswith(SUFFIXES)]
    for name in scales:
        # The older tool gives them the type of the module.
        if description.pop(name, None) not in (C8, FLOAT, *PARTS_OF):
            raise UserError(f"{name} has no type; {C8} is that of a cache's scales", file)
    if scales and not types:
        raise UserError(f"has {scales[0]}, but no {CACHE_TYPES[0]}; expected {C8}", file)
    rest = {name: tensor for name, tensor in tensors.items() if not name.endswith(SUFFIXES)}
    return rest, find_slim_tensors(tensors, config, file.parent) if types else {}


def _list_tensors(folder: Path) -> dict[str, StoredTensor]:
    index = folder / f"{STEM}.safetensors.index.json"
    if file_there(index):
        return list_shards(index)
    found = next((folder / name for name in SINGLE_NAMES if file_there(folder / name)), None)
    if found is None:
        raise UserError(f"holds {DESCRIPTION}, but neither {' nor '.join((*SINGLE_NAMES, index.name))}", folder)
    return list_safetensors(found)


def _quantized(
    description: Mapping[str, Any], tensors: Mapping[str, StoredTensor], biased: Collection[str], file: Path
) -> tuple[dict[str, QuantizedTensor], set[str]]:
    """The quantized modules, and the names of the tensors that belong to them.

    Raises:
        UserError: the description and the tensors do not fit each other, or a type is not implemented.
    """
    for key, kind in description.items():
        if key in tensors:
            if kind not in (FLOAT, *PARTS_OF):
                known = ", ".join((FLOAT, *PARTS_OF))
                raise UserError(f"{key}: type {kind!r:.40} is not implemented; expected one of {known}", file)
        elif key.endswith(PARTS) and f"{key.rpartition('.')[0]}.weight" in tensors:
            raise UserError(f"{key} has the type {kind!r:.40}, but the files have no such tensor", file)
        elif key not in GLOBAL_KEYS and (key, kind) != TIED_HEAD:
            close = difflib.get_close_matches(key, [*tensors, *GLOBAL_KEYS], n=1, cutoff=0.75)
            hint = f"; the nearest is {close[0]}" if close else ""
            raise UserError(f"unknown key {key!r:.120}: neither a tensor of the folder nor a known setting{hint}", file)
    missing = [name for name in tensors if name not in description]
    if missing:
        raise UserError(f"{missing[0]} has no type ({len(missing)} such tensors); {FLOAT} is that of floats", file)
    quantized: dict[str, QuantizedTensor] = {}
    used: set[str] = set()
    for name, tensor in tensors.items():
        kind = description[name]
        if name.endswith(".weight") and kind != FLOAT:
            module = name.removesuffix(".weight")
            parts = _parts(module, kind, tensors, file)
            quantized[module] = _module(kind, tensor, parts, module in biased, file)
            used |= {f"{module}.{part}" for part in ("weight", *PARTS_OF[kind], *PARTS)}
            used |= {f"{module}.bias"} if kind in (W8A8, W8A8S) else set()
    for name in tensors:
        is_bias = name.endswith(".bias") and name.removesuffix(".bias") in quantized
        if description[name] != FLOAT and name not in used and not is_bias:
            raise UserError(f"{name} is {description[name]}, but there is no such weight beside it", file)
    _check_group_size(description.get(GROUP_SIZE) or 0, quantized, file)
    return quantized, used


def _check_group_size(size: Any, quantized: Mapping[str, QuantizedTensor], file: Path) -> None:
    """Compare the description's group size, 0 without groups, with that of the modules."""
    if type(size) is not int or size < 0:
        raise UserError(f"{GROUP_SIZE}: found {size!r:.20}, expected a whole number, 0 without groups", file)
    for module, item in quantized.items():
        if size and item.group_size not in (0, size):
            raise UserError(f"{GROUP_SIZE} is {size}, {module} has groups of {item.group_size}", file)
    if size and quantized and not any(item.scale.shape[1] * size == item.shape[1] for item in quantized.values()):
        raise UserError(f"{GROUP_SIZE} is {size}, but every module has one scale for each output", file)


def _parts(module: str, kind: str, tensors: Mapping[str, StoredTensor], file: Path) -> dict[str, StoredTensor]:
    found = {}
    for part in PARTS_OF[kind]:
        tensor = tensors.get(f"{module}.{part}")
        if tensor is None:
            raise UserError(f"{module}.weight is {kind}, but {module}.{part} is missing", file)
        found[part] = tensor
    return found


def _module(
    kind: str, weight: StoredTensor, parts: Mapping[str, StoredTensor], biased: bool, file: Path
) -> QuantizedTensor:
    if weight.dtype != "I8" or len(weight.shape) != 2:
        raise UserError(f"{weight.name} is {weight.dtype} {list(weight.shape)}, expected I8 [out, in]", weight.file)
    if kind in (W8A8, W8A8S):
        return replace(static_module(weight, parts, biased), is_sparse=kind == W8A8S)
    for tensor in parts.values():
        if tensor.dtype not in FLOAT_DTYPES:
            raise UserError(f"{tensor.name} has dtype {tensor.dtype}, expected a float dtype", tensor.file)
    item = QuantizedTensor(weight, parts[PARTS[0]], parts[PARTS[1]])
    check_quantized(item)
    if kind == W8A16:
        return item
    if item.group_size:
        raise UserError(f"{weight.name} is {kind} in groups of {item.group_size}, expected a scale of an output", file)
    return with_dynamic_input(item)


class MsModelSlim(QuantizedFormat):
    """Writes the format."""

    name = "msmodelslim"
    stem = STEM
    has_input_offset = True

    def check(self, integers: Integers) -> None:
        """8 bits only: linear layers of W4A16 exist on no engine that reads the format."""
        if integers.bits != 8:
            raise UserError(f"--format {self.name}: has no {integers.method}; expected --format compressed-tensors")

    def scale_dtype(self, layer: LayerShape) -> str:
        """float32."""
        return "F32"

    def weight(self, layer: LayerShape, integers: Integers) -> TensorForm:
        """int8 ``[out, in]``."""
        return TensorForm(f"{layer.module}.weight", "I8", (layer.outputs, layer.inputs))

    def encode(self, numbers: np.ndarray, integers: Integers) -> np.ndarray:
        """As they are."""
        return numbers

    def beside(self, layer: LayerShape, integers: Integers) -> list[SmallTensor]:
        """Scales and offsets, which are zero if the integers are symmetric."""
        shape = (layer.outputs, integers.groups(layer.inputs))
        scale, offset = (TensorForm(f"{layer.module}.{part}", "F32", shape) for part in PARTS)
        return [SmallTensor(scale, lambda scales, _: scales), SmallTensor(offset, lambda _, offsets: offsets)]

    def beside_static(self, layer: LayerShape, integers: Integers) -> list[InputTensor]:
        """Scale, offset, and what an engine multiplies and adds."""
        return static_tensors(layer)

    def cache_scales(
        self, shape: CacheShape, key: np.ndarray, value: np.ndarray
    ) -> list[tuple[TensorForm, np.ndarray]]:
        """A scale for each channel, and offsets of zero: vllm-ascend's kernel for single tokens takes none."""
        tensors = []
        for part in (SCALE, OFFSET):
            for name, largest in zip(slim_names(shape, part), (key, value)):
                scale = np.maximum(largest, SMALLEST) / CACHE_DIVISOR
                values = scale if part == SCALE else np.zeros_like(scale)
                tensors.append((TensorForm(name, "F32", values.shape), values))
        return tensors

    def describe_cache(self, folder: Path, config: Mapping[str, Any], tensors: Sequence[str]) -> dict[str, Any]:
        """Their type in ``quant_model_description.json``; ``config.json`` stays."""
        types = read_json_object(folder / DESCRIPTION) | dict.fromkeys((*CACHE_TYPES, *tensors), C8)
        (folder / DESCRIPTION).write_text(json.dumps(types, indent=2) + "\n", encoding="utf-8")
        return dict(config)

    def describe(
        self,
        folder: Path,
        config: Mapping[str, Any],
        integers: Integers,
        layers: Sequence[LayerShape],
        floats: Sequence[str],
        ignored: Sequence[str],
    ) -> dict[str, Any]:
        """Write ``quant_model_description.json``; ``config.json`` stays."""
        kind = integers.method
        types: dict[str, Any] = {MODEL_TYPE: kind, VERSION: "1.0.0", GROUP_SIZE: integers.group_size}
        types |= {"metadata": {}, "optional": {}}
        types |= dict.fromkeys(floats, FLOAT)
        parts = dict.fromkeys(("weight", *PARTS, *PARTS_OF[kind]))
        types |= {f"{layer.module}.{part}": kind for layer in layers for part in parts}
        (folder / DESCRIPTION).write_text(json.dumps(types, indent=2) + "\n", encoding="utf-8")
        return dict(config)
