"""The small operators around the big products: lookups, cuts, biases, labels, in-place writes.

Each has an aclnn kernel, and on CPU one of MindSpore's or of `mindcoder/native`. For the operators that one would
write instead (BiasAdd, Gather, StridedSlice, ReduceSum, L2Loss, AddN, SparseSoftmaxCrossEntropyWithLogits, Argmax,
RightShift, Assign) MindSpore 2.9 selects the old aclop path on Ascend, compiled on the host when first used.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.ops import auto_generate as aclnn

from mindcoder.backend.native_operator import like, native_operator
from mindcoder.backend.operator_source import on_cpu, operator


class Fork(nn.Cell):
    """The same tensor for ``readers`` readers; its gradient is the sum of theirs.

    ``construct(x) -> (x, ...)``. Gradients are added up with Add; autodiff would take AddN.
    """

    def __init__(self, readers: int) -> None:
        super().__init__(auto_prefix=False)
        self.readers = readers

    def construct(self, x: Tensor) -> tuple:
        return (x,) * self.readers

    def bprop(self, x, out, dout):
        total = dout[0]
        for index in range(1, self.readers):
            total = total + dout[index]
        return (total,)


class AddBias(nn.Cell):
    """``x [Q, size] + bias [size]``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.add, self.sum = operator("Add"), aclnn.SumExt()

    def construct(self, x: Tensor, bias: Tensor) -> Tensor:
        return self.add(x, bias)

    def bprop(self, x, bias, out, dout):
        return dout, self.sum(dout, (0,), False)


class LookUp(nn.Cell):
    """Rows of a table: ``construct(table [V, H], indices [I] int32) -> [I, H]``.

    aclnnIndexSelect, and aclnnEmbeddingDenseBackward for the gradient.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.select, self.gradient = operator("IndexSelect"), operator("EmbeddingDenseBackward")

    def construct(self, table: Tensor, indices: Tensor) -> Tensor:
        return self.select(table, 0, indices)

    def bprop(self, table, indices, out, dout):
        return self.gradient(dout, indices, table.shape[0]), ops.zeros_like(indices)


class AddRows(nn.Cell):
    """A table with rows added: ``construct(table [V, H], indices [I] int32, rows [I, H]) -> [V, H]``.

    aclnnIndexAdd; TensorScatterAdd's aclnnTfScatterAdd documents other shapes than MindSpore gives it.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.index_add = operator("IndexAddExt")

    def construct(self, table: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
        return self.index_add(table, 0, indices, rows, 1)


class Cut(nn.Cell):
    """A range of an axis: ``construct(x, begin, end)``; its gradient is zero elsewhere.

    Args:
        axis: 0 or 1.
    """

    def __init__(self, axis: int = 0) -> None:
        super().__init__(auto_prefix=False)
        self.axis = axis
        self.join = ops.Concat(axis)
        # A view costs nothing, but MindSpore's CPU kernels do not read views as such.
        self.views = ms.get_context("device_target") == "Ascend"
        self.view, self.copy = aclnn.Narrow(), operator("IndexSelect")

    def narrow(self, x: Tensor, begin: int, length: int) -> Tensor:
        if self.views:
            return self.view(x, self.axis, begin, length)
        return self.copy(x, self.axis, ops.arange(begin, begin + length, 1, dtype=ms.int32))

    def construct(self, x: Tensor, begin: int, end: int) -> Tensor:
        return self.narrow(x, begin, end - begin)

    def bprop(self, x, begin, end, out, dout):
        parts = (dout,)
        if begin > 0:
            parts = (ops.zeros_like(self.narrow(x, 0, begin)), *parts)
        if end < x.shape[self.axis]:
            parts = (*parts, ops.zeros_like(self.narrow(x, end, x.shape[self.axis] - end)))
        return self.join(parts) if len(parts) > 1 else dout, 0, 0


class RowSum(nn.Cell):
    """Sum over the last axis, which stays with size 1."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.sum = aclnn.SumExt()

    def construct(self, x: Tensor) -> Tensor:
        return self.sum(x, (-1,), True)


class HalfSquareSum(nn.Cell):
    """Half the sum of all elements' squares, a scalar of the dtype of ``x`` (float32).

    From aclnnNorm, which needs no second tensor of the size of ``x``.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.norm = operator("Norm")

    def construct(self, x: Tensor) -> Tensor:
        return ops.square(self.norm(x)) * 0.5


class LabelGradient(nn.Cell):
    """Gradient of the summed cross entropy for the logits: the probabilities, one taken off at each label.

    ``construct(probabilities [Q, V], labels [Q] int32) -> [Q, V]``.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.scatter_add = operator("ScatterAddExt")

    def construct(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        indices = labels.reshape((-1, 1))
        return self.scatter_add(probabilities, 1, indices, ops.cast(indices * 0 - 1, probabilities.dtype))


class ArgMax(nn.Cell):
    """Index of each row's largest element: ``[Q, V] -> [Q]`` int32 (aclnnArgMax counts in int64)."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.argmax = aclnn.ArgMaxExt()

    def construct(self, x: Tensor) -> Tensor:
        return ops.cast(self.argmax(x, -1, False), ms.int32)


class FoldBits(nn.Cell):
    """``x ^ (x >> shift)`` of int32, the shift arithmetic.

    The shift is a division: without the bits that fall out it is exact, also where a device divides in float32.
    """

    def __init__(self, shift: int) -> None:
        super().__init__(auto_prefix=False)
        self.low_bits = (1 << shift) - 1
        self.divisor = Tensor(1 << shift, ms.int32)
        self.both, self.either, self.divide = (
            operator("BitwiseAndScalar"),
            operator("BitwiseXorTensor"),
            aclnn.FloorDiv(),
        )

    def construct(self, x: Tensor) -> Tensor:
        return self.either(x, self.divide(x - self.both(x, self.low_bits), self.divisor))


class Assign(nn.Cell):
    """Write ``value`` over ``target``; returns what later operations depend on."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.copy = aclnn.InplaceCopy()

    def construct(self, target: Parameter, value: Tensor) -> Tensor:
        return self.copy(target, value)


class AssignAdd(nn.Cell):
    """Add ``value`` to ``target`` in place; gives the sum."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.add = operator("InplaceAddExt")

    def construct(self, target: Parameter, value: Tensor) -> Tensor:
        return self.add(target, value, 1)


class ReadAfter(nn.Cell):
    """A parameter as an operator left it that updates in place: ``construct(parameter, done) -> parameter``.

    On CPU those operators are ``ops.Custom``. MindSpore drops an ``ops.depend`` of a parameter on one, with the update.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.copy = native_operator("ReadAfter", "x, done", {"y": like("x")}) if on_cpu() else ops.depend

    def construct(self, parameter: Parameter, done: Tensor) -> Tensor:
        return self.copy(parameter, done)


class WriteRows(nn.Cell):
    """Write rows over those of a table in place: ``construct(table [rows, H], indices [I] int32, rows [I, H])``.

    Of several rows for one index any may win.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.write = operator("InplaceIndexCopy")

    def construct(self, table: Parameter, indices: Tensor, rows: Tensor) -> Tensor:
        return self.write(table, 0, indices, rows)
