"""What msModelSlim stores of a module whose activations have one scale (W8A8), beside ``weight`` int8 ``[out, in]``.

``input_scale`` and ``input_offset`` ``[1]``; ``deq_scale`` ``[out]``, the product of both scales, float32, or in
models of float16 its bits in int64; ``quant_bias`` int32 ``[out]``, the bias in units of ``deq_scale`` less what the
offset adds:

    q = clip(round(x / input_scale + input_offset), -128, 127);  y = (q @ weight.T + quant_bias) * deq_scale
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mindcoder.checkpoint.quantized.activations import with_static_input
from mindcoder.checkpoint.quantized.format import InputTensor, LayerShape, StaticInput, TensorForm
from mindcoder.checkpoint.quantized.keys import expect_form
from mindcoder.checkpoint.quantized.tensors import QuantizedTensor, reformed, row_blocks
from mindcoder.checkpoint.stored_tensor import StoredTensor, convert_dtype
from mindcoder.errors import UserError

SCALE, OFFSET, BOTH_SCALES, BIAS = PARTS = ("input_scale", "input_offset", "deq_scale", "quant_bias")


def static_module(weight: StoredTensor, parts: Mapping[str, StoredTensor], biased: bool) -> QuantizedTensor:
    """A module as the network keeps it.

    Args:
        parts: the tensors named in `PARTS`.
        biased: whether the network has a bias there; if not, ``quant_bias`` must hold none.

    Raises:
        UserError: its tensors do not fit each other.
    """
    rows = weight.shape[0]
    expect_form(parts[BIAS], "I32", (rows,))
    both = parts[BOTH_SCALES]
    expect_form(both, "I64" if both.dtype == "I64" else "F32", (rows,))

    def weight_scale(bits: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):  # a scale of zero is refused when it is read itself
            return (_floats(bits) / _number(parts[SCALE]))[:, None]

    scale = reformed(both, "F32", (rows, 1), weight_scale)

    def check(_: float, offset: float) -> None:
        found = _units_of_bias(weight, parts, offset)
        if not biased and found.any():
            row = int(np.flatnonzero(found)[0])
            raise UserError(
                f"{parts[BIAS].name}: holds a bias ({found[row]:g} units of {BOTH_SCALES} at output {row}), this model "
                "has none",
                weight.file,
            )

    return with_static_input(QuantizedTensor(weight, scale), parts[SCALE], parts[OFFSET], check)


def bias_of(weight: StoredTensor, parts: Mapping[str, StoredTensor]) -> StoredTensor:
    """The bias in floating point, float32 ``[out]``; arguments as of `static_module`."""

    def floats(_: np.ndarray) -> np.ndarray:
        return _units_of_bias(weight, parts, float(_number(parts[OFFSET]))) * _floats(parts[BOTH_SCALES].read())

    return reformed(parts[BIAS], "F32", parts[BIAS].shape, floats, row_wise=False)


def _units_of_bias(weight: StoredTensor, parts: Mapping[str, StoredTensor], offset: float) -> np.ndarray:
    """The bias in units of ``deq_scale``: float32, whole numbers."""
    sums = np.empty(weight.shape[0], np.float64)
    for begin, end in row_blocks(weight.shape):
        sums[begin:end] = weight.read_part(0, begin, end).sum(1, dtype=np.int64)
    return (parts[BIAS].read() + sums * offset).astype(np.float32)


def _floats(both_scales: np.ndarray) -> np.ndarray:
    if both_scales.dtype == np.float32:
        return both_scales
    return both_scales.astype(np.int32).view(np.float32)


def _number(tensor: StoredTensor) -> np.float32:
    return np.float32(convert_dtype(tensor.read(), tensor.dtype, "F32").reshape(-1)[0])


def static_tensors(layer: LayerShape) -> list[InputTensor]:
    """What is written of a layer beside its weight."""
    half = layer.dtype == "F16"

    def both_scales(scale: np.ndarray, own: StaticInput) -> np.ndarray:
        return scale[:, 0] * np.float32(own.scale)

    def stored_scales(scale: np.ndarray, own: StaticInput) -> np.ndarray:
        both = both_scales(scale, own)
        return both.view(np.int32).astype(np.int64) if half else both

    def bias(scale: np.ndarray, own: StaticInput) -> np.ndarray:
        units = 0.0 if own.bias is None else own.bias.astype(np.float64) / both_scales(scale, own)
        return np.rint(units - own.offset * own.sums.astype(np.float64)).astype(np.int32)

    def form(part: str, dtype: str, shape: tuple[int, ...]) -> TensorForm:
        return TensorForm(f"{layer.module}.{part}", dtype, shape)

    made: list[tuple[TensorForm, Any]] = [
        (form(SCALE, "F32", (1,)), lambda _, own: np.array([own.scale], np.float32)),
        (form(OFFSET, "F32", (1,)), lambda _, own: np.array([own.offset], np.float32)),
        (form(BOTH_SCALES, "I64" if half else "F32", (layer.outputs,)), stored_scales),
        (form(BIAS, "I32", (layer.outputs,)), bias),
    ]
    return [InputTensor(*item) for item in made]
