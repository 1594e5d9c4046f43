"""A low-rank update beside a frozen weight (LoRA, Hu et al. 2021; with magnitudes DoRA, Liu et al. 2024)."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.dropout import CounterDropout
from mindcoder.backend.operators import matrix_product
from mindcoder.families.parameter_names import LORA_A, LORA_B, MAGNITUDE
from mindcoder.models.methods.base import ReadTensor, WeightMethod
from mindcoder.models.methods.dense import WeightProduct


class LoRA(WeightMethod):
    """The base method's product, plus ``scaling * dropout(x) @ a.T @ b.T``.

    On a shard of a layer this is a partial sum, reduced like the base's own product: the update is linear in the shard
    too.

    Args:
        base: keeps the layer's weight, whichever way.
        matrices: cell that holds A ``[rank, in]`` and B ``[out, rank]`` as ``mindpet_delta_lora_a`` and ``_b``.
        scaling: factor of the update.
        dropout: on the update's input, in training.
    """

    def __init__(
        self, base: WeightMethod, matrices: nn.Cell, scaling: float, dropout: CounterDropout | None = None
    ) -> None:
        super().__init__(base.compute_dtype)
        self.base, self.matrices = base, matrices
        self.scaling, self.dropout = scaling, dropout
        self.dtype = resolve_dtype(base.compute_dtype)
        self.needs_cast = self.dtype != ms.float32  # in which the matrices are trained
        self.product = WeightProduct(base.compute_dtype)

    def layer_parameters(self) -> dict[str, Parameter]:
        """Those of the base, then the matrices."""
        added = {LORA_A: self.matrices.mindpet_delta_lora_a, LORA_B: self.matrices.mindpet_delta_lora_b}
        return self.base.layer_parameters() | added

    def load(self, read: ReadTensor) -> None:
        """Set the base's weight; the update stays as it is."""
        self.base.load(read)

    def matrix(self) -> Tensor:
        """The base's weight, without the update."""
        return self.base.matrix()

    def operands(self, seed: Tensor) -> tuple:
        """The base's, then A, B and the seed."""
        a, b = self.matrices.mindpet_delta_lora_a, self.matrices.mindpet_delta_lora_b
        if self.needs_cast:
            a, b = ops.cast(a, self.dtype), ops.cast(b, self.dtype)
        return (*self.base.operands(seed), a, b, seed)

    def multiply(self, x: Tensor, operands: tuple) -> Tensor:
        """The sum of both products."""
        a, b, seed = operands[-3:]
        reduced = self.product(self.dropped(x, seed), a) * self.scaling
        return self.base.multiply(x, operands[:-3]) + self.product(reduced, b)

    def dropped(self, x: Tensor, seed: Tensor) -> Tensor:
        """Input of the update, after dropout."""
        if self.dropout is None or not self.training:
            return x
        return x * self.dropout.mask(x, seed)

    def gradients(self, x: Tensor, operands: tuple, dout: Tensor) -> tuple[Tensor, tuple]:
        """Of the input, the base's operands and the two matrices."""
        a, b, seed = operands[-3:]
        grad, base_grads = self.base.gradients(x, operands[:-3], dout)
        dropped = self.dropped(x, seed)
        grad_reduced, grad_b = self.product.gradients(self.product(dropped, a) * self.scaling, b, dout)
        grad_dropped, grad_a = self.product.gradients(dropped, a, grad_reduced * self.scaling)
        return grad + self.dropped(grad_dropped, seed), (*base_grads, grad_a, grad_b, ops.zeros_like(seed))


class DoRA(LoRA):
    """LoRA whose sum of weight and update has rows of learned norms.

    Args:
        base, matrices, scaling, dropout: see `LoRA`.
        tensor_sum: all-reduce over ranks that hold parts of the layer's inputs.
    """

    def __init__(
        self,
        base: WeightMethod,
        matrices: nn.Cell,
        scaling: float,
        dropout: CounterDropout | None = None,
        tensor_sum: nn.Cell | None = None,
    ) -> None:
        super().__init__(base, matrices, scaling, dropout)
        self.norms, self.rescale_rows = UpdatedNorms(scaling, tensor_sum), RescaleRows()
        squares = np.square(ops.cast(base.matrix(), ms.float32).asnumpy()).sum(1)
        if tensor_sum is not None:
            squares = tensor_sum(Tensor(squares)).asnumpy()
        self.magnitude = Parameter(Tensor(np.sqrt(squares)), name=MAGNITUDE)

    def layer_parameters(self) -> dict[str, Parameter]:
        """Those of `LoRA`, then the norms ``[out]``."""
        return super().layer_parameters() | {MAGNITUDE: self.magnitude}

    def rescale(self, result: Tensor) -> Tensor:
        """The sum with rows of the learned norms."""
        a, b = self.matrices.mindpet_delta_lora_a, self.matrices.mindpet_delta_lora_b
        norms = self.norms(self.base.matrix(), a, b)
        return self.rescale_rows(result, ops.cast(self.magnitude / norms, result.dtype))


class UpdatedNorms(nn.Cell):
    """Norm of each output row of ``weight + scaling * b @ a``: float32 ``[out]``, treated as a constant by the
    gradient.

    The sum itself is never materialized: ``|w + s*b@a|^2 = |w|^2 + 2s (w @ a.T) . b + s^2 (b @ (a @ a.T)) . b``.

    Args:
        scaling: of the update.
        tensor_sum: all-reduce over ranks that hold parts of the inputs.
    """

    def __init__(self, scaling: float, tensor_sum: nn.Cell | None) -> None:
        super().__init__(auto_prefix=False)
        self.scaling, self.tensor_sum = scaling, tensor_sum
        self.matmul_transposed, self.matmul = matrix_product(transpose_b=True), matrix_product()

    def construct(self, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
        weight, a, b = (ops.cast(ops.stop_gradient(item), ms.float32) for item in (weight, a, b))
        gram = self.matmul_transposed(a, a)
        cross = self.matmul_transposed(weight, a) * (2.0 * self.scaling) + self.matmul(b, gram) * self.scaling**2
        squares = ops.square(weight).sum(1) + (cross * b).sum(1)
        if self.tensor_sum is not None:
            squares = self.tensor_sum(squares)
        return ops.stop_gradient(ops.sqrt(squares))


class RescaleRows(nn.Cell):
    """``x [Q, out] * factors [out]``; the gradient of the factors is a product with ones, see `AddBias`."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.matmul, self.ones = matrix_product(), ops.Ones()

    def construct(self, x: Tensor, factors: Tensor) -> Tensor:
        return x * factors.reshape((1, -1))

    def bprop(self, x, factors, out, dout):
        ones = self.ones((1, dout.shape[0]), dout.dtype)
        return dout * factors.reshape((1, -1)), self.matmul(ones, dout * x).reshape(factors.shape)
