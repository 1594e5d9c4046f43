"""A weight-only int8 method, complete in this file: the proof that a method is one file, see `test_weight_methods`."""

from __future__ import annotations

import numpy as np
from mindspore import Parameter, Tensor, ops

from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.operators import matrix_product
from mindcoder.models.decoder import Decoder
from mindcoder.models.methods.base import ReadTensor, WeightMethod


def quantize(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight ``[out, in]`` as int8, and the scale ``[out]`` of its output rows in float32."""
    scale = np.maximum(np.abs(weight).max(1), 1e-8).astype(np.float32) / 127.0
    return np.round(weight / scale[:, None]).astype(np.int8), scale


class Int8(WeightMethod):
    """``(x @ weight.T) * scale`` with an int8 ``weight [out, in]`` and a float32 ``scale [out]``, both frozen.

    Args:
        base: the method whose weight is quantized.
    """

    def __init__(self, base: WeightMethod) -> None:
        super().__init__(base.compute_dtype)
        weight, scale = quantize(base.matrix().asnumpy().astype(np.float32))
        self.weight = Parameter(Tensor(weight), name="weight", requires_grad=False)
        self.scale = Parameter(Tensor(scale), name="scale", requires_grad=False)
        self.dtype = resolve_dtype(base.compute_dtype)
        self.matmul = matrix_product(transpose_b=True, compute_dtype=base.compute_dtype)
        self.grad_input = matrix_product(compute_dtype=base.compute_dtype)

    def layer_parameters(self) -> dict[str, Parameter]:
        return {"weight": self.weight, "scale": self.scale}

    def load(self, read: ReadTensor) -> None:
        weight, scale = read("weight"), read("scale")
        if scale is None:  # a checkpoint that is not quantized
            weight, scale = quantize(np.asarray(weight, np.float32))
        self.weight.set_data(Tensor(weight))
        self.scale.set_data(Tensor(scale))

    def matrix(self) -> Tensor:
        return ops.cast(self.weight, self.scale.dtype) * self.scale.reshape((-1, 1))

    def operands(self, seed: Tensor) -> tuple:
        return self.weight, ops.cast(self.scale, self.dtype)

    def multiply(self, x: Tensor, operands: tuple) -> Tensor:
        weight, scale = operands
        return self.matmul(x, ops.cast(weight, self.dtype)) * scale.reshape((1, -1))

    def gradients(self, x: Tensor, operands: tuple, dout: Tensor) -> tuple[Tensor, tuple]:
        weight, scale = operands
        grad = self.grad_input(dout * scale.reshape((1, -1)), ops.cast(weight, self.dtype))
        return grad, (ops.zeros_like(weight), ops.zeros_like(scale))


def to_int8(decoder: Decoder) -> None:
    """Keep the weights of all linear layers in int8."""
    for linear in decoder.linears().values():
        linear.use(Int8(linear.method))


def dequantize(decoder: Decoder) -> None:
    """Give the linear layers, in floating point, the weights that `to_int8` would give them."""
    for linear in decoder.linears().values():
        linear.weight.set_data(Int8(linear.method).matrix())
