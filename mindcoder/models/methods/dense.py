"""A plain floating-point weight."""

from __future__ import annotations

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.operators import matrix_product
from mindcoder.errors import UserError
from mindcoder.families.parameter_names import ABSMAX, SCALE
from mindcoder.models.methods.base import NativeParameters, ReadTensor, WeightMethod


def _matrix_products(compute_dtype: str) -> tuple[nn.Cell, nn.Cell, nn.Cell]:
    """Operators for ``x @ weight.T``, and for the gradients of ``x`` and of the weight."""
    return (
        matrix_product(transpose_b=True, compute_dtype=compute_dtype),
        matrix_product(compute_dtype=compute_dtype),
        matrix_product(transpose_a=True, compute_dtype=compute_dtype),
    )


class WeightProduct(nn.Cell):
    """``x @ weight.T`` of a weight that does not belong to a linear layer, with its gradients as two matrix products.

    Args:
        compute_dtype: of the factors, a name, see `matrix_product`.
    """

    def __init__(self, compute_dtype: str = "float32") -> None:
        super().__init__(auto_prefix=False)
        self.matmul, self.grad_input, self.grad_weight = _matrix_products(compute_dtype)

    def construct(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.matmul(x, weight)

    def bprop(self, x, weight, out, dout):
        return self.gradients(x, weight, dout)

    def gradients(self, x: Tensor, weight: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the input and the weight."""
        return self.grad_input(dout, weight), self.grad_weight(dout, x)


class Dense(WeightMethod):
    """``x @ weight.T``.

    Args:
        weight: ``[out, in]``, or this rank's shard of it.
        compute_dtype: of the product, a name.
    """

    def __init__(self, weight: Parameter, compute_dtype: str) -> None:
        super().__init__(compute_dtype)
        self.weight = weight
        self.dtype = resolve_dtype(compute_dtype)
        self.needs_cast = weight.dtype != self.dtype
        self.matmul, self.grad_input, self.grad_weight = _matrix_products(compute_dtype)

    def layer_parameters(self) -> dict[str, Parameter]:
        """The weight."""
        return {"weight": self.weight}

    def load(self, read: ReadTensor) -> None:
        """Set the weight, in its own dtype.

        Raises:
            UserError: the checkpoint's is in integers.
        """
        if read(SCALE) is not None or read(ABSMAX) is not None:
            raise UserError("a linear layer is kept in floating point, the checkpoint's weight is in integers")
        self.weight.set_data(Tensor(np.ascontiguousarray(read("weight")), self.weight.dtype))

    def matrix(self) -> Tensor:
        """The weight, in the dtype it is stored in."""
        return self.weight

    def operands(self, seed: Tensor) -> tuple:
        """The weight in the compute dtype."""
        return (ops.cast(self.weight, self.dtype) if self.needs_cast else self.weight,)

    def multiply(self, x: Tensor, operands: tuple) -> Tensor:
        """``x @ weight.T``."""
        return self.matmul(x, operands[0])

    def gradients(self, x: Tensor, operands: tuple, dout: Tensor) -> tuple[Tensor, tuple]:
        """Of the input and the weight."""
        return self.grad_input(dout, operands[0]), (self.grad_weight(dout, x),)

    def native_parameters(self) -> NativeParameters | None:
        """The weight."""
        return NativeParameters(self.weight)
