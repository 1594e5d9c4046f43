"""Writes compressed-tensors' folders; `mindcoder.checkpoint.quantized.compressed_tensors` has the format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mindcoder.checkpoint.quantized.compressed_tensors import (
    CACHE_KEY,
    CONFIG_KEY,
    INTEGERS,
    METHOD,
    PACKED,
    TENSOR,
)
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
)
from mindcoder.checkpoint.quantized.kv_tensors import attention_names
from mindcoder.checkpoint.quantized.packing import WORD_BITS, to_words
from mindcoder.checkpoint.stored_tensor import convert_dtype
from mindcoder.errors import UserError

CACHE_DIVISOR = np.float32(127.5)  # of the largest magnitude, as the package's observers have it
SMALLEST = np.float32(1e-5)  # of the cache's scales


class CompressedTensors(QuantizedFormat):
    """Writes the format: ``pack-quantized``, or ``int-quantized`` where activations become integers, too."""

    name = METHOD
    stem = "model"

    def check(self, integers: Integers) -> None:
        """Both numbers of bits are there; sparse integers have no name of their own."""
        if integers.large:
            raise UserError(f"--format {self.name}: has no {integers.method}; expected --format msmodelslim")

    def scale_dtype(self, layer: LayerShape) -> str:
        """The model's own."""
        return layer.dtype

    def weight(self, layer: LayerShape, integers: Integers) -> TensorForm:
        """int32 words of unsigned numbers, or int8."""
        if integers.activations:
            return TensorForm(f"{layer.module}.weight", "I8", (layer.outputs, layer.inputs))
        words = -(-layer.inputs * integers.bits // WORD_BITS)
        return TensorForm(f"{layer.module}.weight_packed", "I32", (layer.outputs, words))

    def encode(self, numbers: np.ndarray, integers: Integers) -> np.ndarray:
        """Packed into words, or as they are."""
        return numbers if integers.activations else to_words(numbers, integers.bits)

    def beside(self, layer: LayerShape, integers: Integers) -> list[SmallTensor]:
        """Scales in the model's dtype, zero points if there are any, and the weight's shape."""
        groups, dtype, bits = integers.groups(layer.inputs), self.scale_dtype(layer), integers.bits
        scale = TensorForm(f"{layer.module}.weight_scale", dtype, (layer.outputs, groups))
        tensors = [SmallTensor(scale, lambda scales, _: convert_dtype(scales, "F32", dtype))]
        if integers.activations:
            return tensors
        if not integers.symmetric:
            words = -(-layer.outputs * bits // WORD_BITS)
            zero = TensorForm(f"{layer.module}.weight_zero_point", "I32", (words, groups))
            tensors.append(SmallTensor(zero, lambda _, offsets: _packed_offsets(offsets, bits)))
        shape = TensorForm(f"{layer.module}.weight_shape", "I64", (2,))
        return [*tensors, SmallTensor(shape, lambda *_: np.array([layer.outputs, layer.inputs], np.int64))]

    def beside_static(self, layer: LayerShape, integers: Integers) -> list[InputTensor]:
        """The scale of all activations; engines that read the format want them without an offset."""
        dtype = self.scale_dtype(layer)
        form = TensorForm(f"{layer.module}.input_scale", dtype, (1,))
        return [InputTensor(form, lambda _, own: convert_dtype(np.array([own.scale], np.float32), "F32", dtype))]

    def cache_scales(
        self, shape: CacheShape, key: np.ndarray, value: np.ndarray
    ) -> list[tuple[TensorForm, np.ndarray]]:
        """One scale for all keys of the layer and one for all values, float32."""
        scales = [np.maximum(largest.max() / CACHE_DIVISOR, SMALLEST).reshape(1) for largest in (key, value)]
        return [(TensorForm(name, "F32", (1,)), scale) for name, scale in zip(attention_names(shape), scales)]

    def describe_cache(self, folder: Path, config: Mapping[str, Any], tensors: Sequence[str]) -> dict[str, Any]:
        """``kv_cache_scheme`` in ``config.json``."""
        return {**config, CONFIG_KEY: {**config[CONFIG_KEY], CACHE_KEY: _described_inputs(STATIC)}}

    def describe(
        self,
        folder: Path,
        config: Mapping[str, Any],
        integers: Integers,
        layers: Sequence[LayerShape],
        floats: Sequence[str],
        ignored: Sequence[str],
    ) -> dict[str, Any]:
        """``quantization_config`` in ``config.json``; no file of its own."""
        form = INTEGERS if integers.activations else PACKED
        weights = {
            "num_bits": integers.bits,
            "type": "int",
            "symmetric": integers.symmetric,
            "strategy": "group" if integers.group_size else "channel",
            "group_size": integers.group_size or None,
            "block_structure": None,
            "dynamic": False,
            "actorder": None,
            "observer": "minmax",
            "observer_kwargs": {},
        }
        group = {
            "targets": ["Linear"],
            "weights": weights,
            "input_activations": _described_inputs(integers.activations),
            "output_activations": None,
            "format": form,
        }
        return {
            **config,
            CONFIG_KEY: {
                "quant_method": METHOD,
                "format": form,
                "quantization_status": "compressed",
                "config_groups": {"group_0": group},
                "ignore": list(ignored),
                CACHE_KEY: None,
                "global_compression_ratio": None,
            },
        }


def _described_inputs(activations: str) -> dict[str, Any] | None:
    """The object that says how activations become integers."""
    if not activations:
        return None
    dynamic = activations == DYNAMIC
    return {
        "num_bits": 8,
        "type": "int",
        "symmetric": True,
        "strategy": "token" if dynamic else TENSOR,
        "group_size": None,
        "block_structure": None,
        "dynamic": dynamic,
        "actorder": None,
        "observer": None if dynamic else "minmax",
        "observer_kwargs": {},
    }


def _packed_offsets(offsets: np.ndarray, bits: int) -> np.ndarray:
    """Zero points ``[out, groups]`` packed along the outputs."""
    numbers = np.ascontiguousarray(offsets.T).astype(np.int8)
    return np.ascontiguousarray(to_words(numbers, bits).T)
