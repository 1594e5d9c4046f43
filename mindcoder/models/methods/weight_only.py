"""A frozen weight of 8- or 4-bit integers; activations stay in floating point (W8A16, W4A16)."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops

from mindcoder.backend.quant_operators import GROUP, QuantizedProduct
from mindcoder.errors import UserError
from mindcoder.families.parameter_names import OFFSET, SCALE
from mindcoder.models.methods.base import NativeParameters, ReadTensor, WeightMethod


class WeightOnly(WeightMethod):
    """``x @ W.T`` with ``W = (weight - weight_offset) * weight_scale``.

    All three are frozen; the input has a gradient, so that adapters are trained on top. In tensor-parallel layers the
    tensors are this rank's shards.

    Args:
        weight: int8 ``[out, in]``; or two numbers from -8 to 7 a byte, uint8 ``[out, in / 2]``: 8 is added to each,
            and the first of the two is in the low nibble.
        scale: float32 ``[out, groups]``, a column for each ``in / groups`` neighbouring inputs.
        offset: float32 ``[out, groups]``, whole numbers; None if the integers are symmetric around zero.
        compute_dtype: of the product, a name.

    Attributes:
        bits: 8 or 4.
        groups: columns of the scale; 1 is a scale for each output channel.
    """

    def __init__(self, weight: Tensor, scale: Tensor, offset: Tensor | None, compute_dtype: str) -> None:
        super().__init__(compute_dtype)
        self.weight = Parameter(weight, name="weight", requires_grad=False)
        self.scale = Parameter(scale, name=SCALE, requires_grad=False)
        self.offset = None if offset is None else Parameter(offset, name=OFFSET, requires_grad=False)
        self.bits = 4 if weight.dtype == ms.uint8 else 8
        self.groups = scale.shape[1]
        shape = (weight.shape[0], weight.shape[1] * 8 // self.bits, self.groups)
        self.product = QuantizedProduct(shape, self.bits, compute_dtype, offset is not None)

    @classmethod
    def of(cls, read: ReadTensor, compute_dtype: str) -> WeightOnly:
        """The method that keeps the integers of a checkpoint."""
        weight, scale, offset = _integers(read)
        return cls(Tensor(weight), Tensor(scale), None if offset is None else Tensor(offset), compute_dtype)

    def layer_parameters(self) -> dict[str, Parameter]:
        """The integers, their scales, and the offsets if there are any."""
        named = {"weight": self.weight, SCALE: self.scale}
        return named if self.offset is None else {**named, OFFSET: self.offset}

    def load(self, read: ReadTensor) -> None:
        """Set the integers and their scales.

        Raises:
            UserError: the checkpoint has none, or has them in another form.
        """
        parts = _integers(read)
        for parameter, values in zip((self.weight, self.scale, self.offset), parts):
            form = None if values is None else (values.shape, str(values.dtype))
            if form != (None if parameter is None else (parameter.shape, str(parameter.dtype).lower())):
                raise UserError(f"a linear layer is kept in other integers than those of the checkpoint: {form}")
            if parameter is not None:
                parameter.set_data(Tensor(values))

    def matrix(self) -> Tensor:
        """The numbers that the integers stand for, in the compute dtype."""
        return self.product.floats(*self.operands(self.scale))

    def operands(self, seed: Tensor) -> tuple:
        """The parameters."""
        return (self.weight, self.scale) if self.offset is None else (self.weight, self.scale, self.offset)

    def multiply(self, x: Tensor, operands: tuple) -> Tensor:
        """``x @ W.T``."""
        return self.product(x, *operands)

    def gradients(self, x: Tensor, operands: tuple, dout: Tensor) -> tuple[Tensor, tuple]:
        """Of the input; zeros for the frozen parameters."""
        grad = self.product.gradient(dout, *operands)
        frozen = (ops.zeros_like(operands[0]), ops.zeros_like(operands[1]))
        if self.offset is None:
            return grad, frozen
        return grad, (*frozen, ops.zeros_like(operands[2]))

    def native_parameters(self) -> NativeParameters | None:
        """The integers, if the C++ step knows groups of their size."""
        group_size = self.weight.shape[1] * 8 // self.bits // self.groups
        if self.groups > 1 and group_size % GROUP:
            return None
        return NativeParameters(self.weight, self.scale, self.offset)


def _integers(read: ReadTensor) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Weight, scale and offset of a layer in a checkpoint; offsets that are all zero count as none.

    Raises:
        UserError: its weight is in floating point.
    """
    weight, scale, offset = (read(part) for part in ("weight", SCALE, OFFSET))
    if weight is None or scale is None:
        raise UserError("a linear layer is kept in integers, which the checkpoint does not have")
    return (
        np.ascontiguousarray(weight),
        np.ascontiguousarray(scale, np.float32),
        None if offset is None or not offset.any() else np.ascontiguousarray(offset, np.float32),
    )
