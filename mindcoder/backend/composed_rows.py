"""CPU's side of the small operators around the big products: lookups, cuts, biases, labels, in-place writes.

`mindcoder.backend.fused_rows` holds the same classes for Ascend, where some of these operators have no aclnn kernel.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops


class Fork(nn.Cell):
    """The same tensor for ``readers`` readers; its gradient is the sum of theirs.

    ``construct(x) -> (x, ...)``. Here autodiff adds the gradients up itself.
    """

    def __init__(self, readers: int) -> None:
        super().__init__(auto_prefix=False)
        self.readers = readers

    def construct(self, x: Tensor) -> tuple:
        return (x,) * self.readers


class AddBias(nn.Cell):
    """``x [rows, size] + bias [size]``.

    MindSpore's own bias gradient (BiasAddGrad) is a slow reduction on CPU; a product with a row of ones is 40 times
    faster.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.bias_add = ops.BiasAdd()
        self.matmul = ops.MatMul()
        self.ones = ops.Ones()

    def construct(self, x: Tensor, bias: Tensor) -> Tensor:
        return self.bias_add(x, bias)

    def bprop(self, x, bias, out, dout):
        ones = self.ones((1, dout.shape[0]), dout.dtype)
        return dout, self.matmul(ones, dout).reshape(bias.shape)


class LookUp(nn.Cell):
    """Rows of a table: ``construct(table [V, H], places [P] int32) -> [P, H]``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.gather = ops.Gather()

    def construct(self, table: Tensor, places: Tensor) -> Tensor:
        return self.gather(table, places, 0)


class AddRows(nn.Cell):
    """A table with rows added: ``construct(table [V, H], places [P] int32, rows [P, H]) -> [V, H]``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.scatter_add = ops.TensorScatterAdd()

    def construct(self, table: Tensor, places: Tensor, rows: Tensor) -> Tensor:
        return self.scatter_add(table, places.reshape((-1, 1)), rows)


class Cut(nn.Cell):
    """A range of an axis: ``construct(x, begin, end)``; its gradient is zero elsewhere.

    Args:
        axis: 0 or 1.
    """

    def __init__(self, axis: int = 0) -> None:
        super().__init__(auto_prefix=False)
        self.axis = axis

    def construct(self, x: Tensor, begin: int, end: int) -> Tensor:
        return x[begin:end] if self.axis == 0 else x[:, begin:end]


class RowSum(nn.Cell):
    """Sum over the last axis, which stays with size 1."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.reduce = ops.ReduceSum(keep_dims=True)

    def construct(self, x: Tensor) -> Tensor:
        return self.reduce(x, -1)


class HalfSquareSum(nn.Cell):
    """Half the sum of all elements' squares, a scalar of the dtype of ``x`` (float32)."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.loss = ops.L2Loss()

    def construct(self, x: Tensor) -> Tensor:
        return self.loss(x)


class LabelGradient(nn.Cell):
    """Gradient of the cross entropy for the logits.

    ``construct(logits [R, V] float32, labels [R] int32) -> [R, V]`` times ``weight(R)`` is that of the sum over rows:
    the operator here gives that of the mean.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.gradient = ops.SparseSoftmaxCrossEntropyWithLogits(is_grad=True)

    def construct(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.gradient(logits, labels)

    def weight(self, rows: int) -> int:
        """See above."""
        return rows


class LargestPlace(nn.Cell):
    """Where each row's largest element is: ``[R, V] -> [R]`` int32."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.argmax = ops.Argmax(axis=-1, output_type=ms.int32)

    def construct(self, x: Tensor) -> Tensor:
        return self.argmax(x)


class FoldBits(nn.Cell):
    """``x ^ (x >> shift)`` of int32, the shift arithmetic."""

    def __init__(self, shift: int) -> None:
        super().__init__(auto_prefix=False)
        self.shift = Tensor(shift, ms.int32)

    def construct(self, x: Tensor) -> Tensor:
        return ops.bitwise_xor(x, ops.bitwise_right_shift(x, self.shift))


class Assign(nn.Cell):
    """Write ``value`` over ``target``; gives what has to be waited for."""

    def construct(self, target: Parameter, value: Tensor) -> Tensor:
        return ops.assign(target, value)


class AssignAdd(nn.Cell):
    """Add ``value`` to ``target`` in place; gives the sum."""

    def construct(self, target: Parameter, value: Tensor) -> Tensor:
        return ops.assign_add(target, value)


class WriteRows(nn.Cell):
    """Write rows over those of a table in place: ``construct(table [R, H], places [P] int32, rows [P, H])``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.write = ops.ScatterNdUpdate()

    def construct(self, table: Parameter, places: Tensor, rows: Tensor) -> Tensor:
        return self.write(table, places.reshape((-1, 1)), rows)
