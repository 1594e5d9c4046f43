"""A frozen weight of 8-bit integers that multiplies activations in 8-bit integers (W8A8)."""

from __future__ import annotations

import numpy as np
from mindspore import Parameter, Tensor, ops

from mindcoder.backend.int8_operators import MOST_INPUTS, Int8Product
from mindcoder.errors import UserError
from mindcoder.families.parameter_names import INPUT, OFFSET, SCALE
from mindcoder.models.methods.base import NativeParameters, ReadTensor, WeightMethod

INVERSE = "input_inverse"
STATIC = (INVERSE, "input_scale", "input_offset", "input_added")  # see `Int8Product`


class W8A8(WeightMethod):
    """``round(x) @ W.T`` with ``W = weight * weight_scale``, summed in integers.

    Dynamic: every token is rounded to integers by its own scale. Static: all by one scale and offset, known beforehand.
    All parameters are frozen; the input has the gradient of an input that is not rounded, so that adapters are trained
    on top. In tensor-parallel layers weight and scale are this rank's shards; a row-parallel layer has a part of each
    token's inputs, and its dynamic scale is that part's own.

    Args:
        weight: int8 ``[out, in]``.
        scale: float32 ``[out, 1]``.
        rounding: float32 ``[2]``: scale of activations, 0 if dynamic, and offset, a whole number.
        compute_dtype: of the product, a name.

    Attributes:
        is_static: whether activations have one scale.
    """

    def __init__(self, weight: np.ndarray, scale: np.ndarray, rounding: np.ndarray, compute_dtype: str) -> None:
        super().__init__(compute_dtype)
        values = _values(weight, scale, rounding)
        self.is_static, self.parts = INVERSE in values, tuple(values)
        for part in values:
            setattr(self, part, Parameter(Tensor(values[part]), name=part, requires_grad=False))
        outputs, inputs = weight.shape
        self.product = Int8Product(outputs, inputs, compute_dtype)

    @classmethod
    def of(cls, read: ReadTensor, compute_dtype: str) -> W8A8:
        """The method that keeps the integers of a checkpoint."""
        return cls(*_integers(read), compute_dtype)

    def layer_parameters(self) -> dict[str, Parameter]:
        """The integers, their scales, how activations are rounded; and what follows from that if it is static."""
        return {part: getattr(self, part) for part in self.parts}

    def load(self, read: ReadTensor) -> None:
        """Set the integers, their scales and the rounding of activations.

        Raises:
            UserError: the checkpoint has none, or has them in another form.
        """
        values = _values(*_integers(read))
        if tuple(values) != self.parts or values["weight"].shape != self.weight.shape:
            raise UserError("a linear layer is kept in other integers than those of the checkpoint")
        for part, item in values.items():
            getattr(self, part).set_data(Tensor(item))

    def matrix(self) -> Tensor:
        """The numbers that the integers stand for, in the compute dtype."""
        return self.product.floats(self.weight, self.weight_scale)

    def operands(self, seed: Tensor) -> tuple:
        """Weight and scale; with static rounding what `Int8Product` wants for it."""
        if not self.is_static:
            return self.weight, self.weight_scale
        static = (self.input_inverse, self.input_scale, self.input_offset, self.input_added)
        return (self.weight, self.weight_scale, *static)

    def multiply(self, x: Tensor, operands: tuple) -> Tensor:
        """``round(x) @ W.T``."""
        return self.product(x, *operands)

    def gradients(self, x: Tensor, operands: tuple, dout: Tensor) -> tuple[Tensor, tuple]:
        """Of the input; zeros for the frozen parameters."""
        frozen: tuple = ()
        for operand in operands:
            frozen = frozen + (ops.zeros_like(operand),)
        return self.product.gradient(dout, operands[0], operands[1]), frozen

    def native_parameters(self) -> NativeParameters | None:
        """The integers, if the C++ step knows so many inputs."""
        if self.weight.shape[1] > MOST_INPUTS:
            return None
        return NativeParameters(self.weight, self.weight_scale, input=self.input_rounding)


def _integers(read: ReadTensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight, scale and rounding of a layer in a checkpoint.

    Raises:
        UserError: it has no such layer.
    """
    weight, scale, rounding = (read(part) for part in ("weight", SCALE, INPUT))
    if weight is None or scale is None or rounding is None or weight.dtype != np.int8 or scale.shape[1] != 1:
        raise UserError("a linear layer and its activations are kept in integers, which the checkpoint does not have")
    offset = read(OFFSET)
    if offset is not None and offset.any():
        raise UserError("weights with offsets cannot be multiplied by int8 activations; expected offsets of zero")
    return (
        np.ascontiguousarray(weight),
        np.ascontiguousarray(scale, np.float32),
        np.ascontiguousarray(rounding, np.float32),
    )


def _values(weight: np.ndarray, scale: np.ndarray, rounding: np.ndarray) -> dict[str, np.ndarray]:
    """All that is kept, by its name in the layer."""
    kept = {"weight": weight, SCALE: scale, INPUT: rounding}
    if rounding[0] == 0:
        return kept
    sums = weight.sum(1, dtype=np.int32) * np.int32(-rounding[1])
    return kept | dict(zip(STATIC, (1 / rounding[:1], rounding[:1], rounding[1:], sums)))
