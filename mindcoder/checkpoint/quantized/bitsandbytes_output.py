"""Writes bitsandbytes' folders in NF4 with double quantization; `mindcoder.checkpoint.quantized.bitsandbytes` has the
format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindcoder.backend.nf4 import BLOCK, CODES, SCALE_BLOCK, NestedScales, pack_codes, scale_numbers
from mindcoder.checkpoint.quantized.bitsandbytes import CONFIG_KEY, KIND, METHOD, STATE, description, state_bytes
from mindcoder.checkpoint.quantized.format import (
    InputTensor,
    Integers,
    LayerShape,
    QuantizedFormat,
    SmallTensor,
    TensorForm,
)
from mindcoder.errors import UserError

TORCH_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
STATE_BYTES = 256  # the JSON is padded: its size is written before the offset is known


@dataclass(frozen=True)
class Nf4Codes(Integers):
    """Codes of NF4 in place of integers: from 0 to 15, in blocks of 64 inputs."""

    bits: int = 4
    group_size: int = BLOCK

    @property
    def method(self) -> str:
        """The field's name."""
        return "NF4"


class BitsAndBytes(QuantizedFormat):
    """Writes the format."""

    name = METHOD
    stem = "model"

    def check(self, integers: Integers) -> None:
        """NF4 only."""
        if not isinstance(integers, Nf4Codes):
            raise UserError(f"--format {self.name}: has no {integers.method}; expected --method {KIND}")

    def scale_dtype(self, layer: LayerShape) -> str:
        """float32, before double quantization."""
        return "F32"

    def weight(self, layer: LayerShape, integers: Integers) -> TensorForm:
        """Bytes of two codes."""
        return TensorForm(f"{layer.module}.weight", "U8", (layer.outputs * layer.inputs // 2, 1))

    def encode(self, numbers: np.ndarray, integers: Integers) -> np.ndarray:
        """Two codes a byte, the first in the high half."""
        return pack_codes(numbers.view(np.uint8)).reshape(-1, 1)

    def beside(self, layer: LayerShape, integers: Integers) -> list[SmallTensor]:
        """Scales and theirs, and what all of them stand for."""
        weight, blocks = f"{layer.module}.weight", layer.outputs * layer.inputs // BLOCK
        above = -(-blocks // SCALE_BLOCK)
        return [
            SmallTensor(
                TensorForm(f"{weight}.absmax", "U8", (blocks,)),
                lambda scales, _: NestedScales.of(scales).numbers.reshape(-1),
            ),
            SmallTensor(TensorForm(f"{weight}.quant_map", "F32", CODES.shape), lambda *_: CODES),
            SmallTensor(
                TensorForm(f"{weight}.nested_absmax", "F32", (above,)),
                lambda scales, _: NestedScales.of(scales).absmax,
            ),
            SmallTensor(TensorForm(f"{weight}.nested_quant_map", "F32", (256,)), lambda *_: scale_numbers()),
            SmallTensor(
                TensorForm(f"{layer.module}.{STATE}{KIND}", "U8", (STATE_BYTES,)),
                lambda scales, _: _state(layer, float(NestedScales.of(scales).offset)),
            ),
        ]

    def beside_static(self, layer: LayerShape, integers: Integers) -> list[InputTensor]:
        """None: activations stay floats."""
        return []

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
        return {**config, CONFIG_KEY: description(ignored, config.get("torch_dtype", "float32"))}


def _state(layer: LayerShape, offset: float) -> np.ndarray:
    """The JSON of a module, with spaces behind it."""
    found = state_bytes((layer.outputs, layer.inputs), TORCH_DTYPES.get(layer.dtype, "float32"), offset)
    return np.pad(found, (0, STATE_BYTES - len(found)), constant_values=ord(" "))
