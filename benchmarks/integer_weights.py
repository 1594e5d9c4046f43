"""Weights of integers for the C++ step, rounded to the nearest: what speed and memory depend on, and no more."""

from __future__ import annotations

import numpy as np
from mindspore import Parameter, Tensor

from mindcoder.models.decoder import Decoder
from mindcoder.models.methods.base import NativeParameters, WeightMethod
from mindcoder.models.methods.w8a8 import W8A8


class Integers(WeightMethod):
    """A symmetric weight of 8 bits with a scale for each output, or of 4 bits with one for each group of inputs.

    Args:
        base: whose weight it is.
        bits: 8 or 4.
        group: inputs of a scale; 0 for all.
    """

    def __init__(self, base: WeightMethod, bits: int, group: int) -> None:
        super().__init__(base.compute_dtype)
        weight = base.matrix().asnumpy().astype(np.float32)
        groups, half = weight.reshape(len(weight), -1, group or weight.shape[1]), 2 ** (bits - 1)
        scale = np.maximum(np.abs(groups).max(2), 1e-8) / (half - 1)
        q = np.round(groups / scale[..., None]).astype(np.int8).reshape(weight.shape)
        if bits == 4:
            unsigned = (q + 8).astype(np.uint8)
            q = unsigned[:, ::2] | unsigned[:, 1::2] << 4
        self.weight = Parameter(Tensor(q), name="weight", requires_grad=False)
        self.weight_scale = Parameter(Tensor(scale), name="weight_scale", requires_grad=False)

    def layer_parameters(self) -> dict[str, Parameter]:
        """The integers and their scales."""
        return {"weight": self.weight, "weight_scale": self.weight_scale}

    def native_parameters(self) -> NativeParameters:
        """The same."""
        return NativeParameters(self.weight, self.weight_scale)


def to_integers(decoder: Decoder, bits: int, group: int) -> None:
    """Keep the weights of all linear layers in integers."""
    for linear in decoder.linears().values():
        linear.use(Integers(linear.method, bits, group))


def to_w8a8(decoder: Decoder) -> None:
    """The same in 8 bits, with activations in integers, too, each token by its own scale."""
    to_integers(decoder, 8, 0)
    for linear in decoder.linears().values():
        weight, scale = (item.asnumpy() for item in linear.method.layer_parameters().values())
        linear.use(W8A8(weight, scale, np.zeros(2, np.float32), linear.method.compute_dtype))
