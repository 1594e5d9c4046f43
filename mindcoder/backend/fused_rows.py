"""Ascend's side of the small operators: each has an aclnn kernel; contracts are in `mindcoder.backend.composed_rows`.

What MindSpore 2.9 would select for the operators there (BiasAdd, Gather, StridedSlice, ReduceSum, L2Loss, AddN,
SparseSoftmaxCrossEntropyWithLogits, Argmax, RightShift, Assign) is the old aclop path, compiled on the host when first
used.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.ops import auto_generate as aclnn


class Fork(nn.Cell):
    """Adds the gradients up with Add; autodiff would take AddN."""

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
    """``x [rows, size] + bias [size]``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.sum = aclnn.SumExt()

    def construct(self, x: Tensor, bias: Tensor) -> Tensor:
        return x + bias

    def bprop(self, x, bias, out, dout):
        return dout, self.sum(dout, (0,), False)


class LookUp(nn.Cell):
    """aclnnIndexSelect, and aclnnEmbeddingDenseBackward for the gradient."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.select, self.gradient = aclnn.IndexSelect(), aclnn.EmbeddingDenseBackward()

    def construct(self, table: Tensor, places: Tensor) -> Tensor:
        return self.select(table, 0, places)

    def bprop(self, table, places, out, dout):
        return self.gradient(dout, places, table.shape[0]), ops.zeros_like(places)


class AddRows(nn.Cell):
    """aclnnIndexAdd; TensorScatterAdd's aclnnTfScatterAdd documents other shapes than MindSpore gives it."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.index_add = aclnn.IndexAddExt()

    def construct(self, table: Tensor, places: Tensor, rows: Tensor) -> Tensor:
        return self.index_add(table, 0, places, rows, 1)


class Cut(nn.Cell):
    """A view of the range; the gradient is joined with zeros."""

    def __init__(self, axis: int = 0) -> None:
        super().__init__(auto_prefix=False)
        self.axis = axis
        self.narrow, self.join = aclnn.Narrow(), ops.Concat(axis)

    def construct(self, x: Tensor, begin: int, end: int) -> Tensor:
        return self.narrow(x, self.axis, begin, end - begin)

    def bprop(self, x, begin, end, out, dout):
        parts = (dout,)
        if begin > 0:
            parts = (ops.zeros_like(self.narrow(x, self.axis, 0, begin)), *parts)
        if end < x.shape[self.axis]:
            parts = (*parts, ops.zeros_like(self.narrow(x, self.axis, end, x.shape[self.axis] - end)))
        return self.join(parts) if len(parts) > 1 else dout, 0, 0


class RowSum(nn.Cell):
    """aclnnReduceSum."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.sum = aclnn.SumExt()

    def construct(self, x: Tensor) -> Tensor:
        return self.sum(x, (-1,), True)


class HalfSquareSum(nn.Cell):
    """From aclnnNorm, which needs no second tensor of the size of ``x``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.norm = aclnn.Norm()

    def construct(self, x: Tensor) -> Tensor:
        return ops.square(self.norm(x)) * 0.5


class LabelGradient(nn.Cell):
    """Softmax, and one taken off at each label."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.softmax, self.scatter_add = ops.Softmax(-1), aclnn.ScatterAddExt()

    def construct(self, logits: Tensor, labels: Tensor) -> Tensor:
        places = labels.reshape((-1, 1))
        return self.scatter_add(self.softmax(logits), 1, places, ops.cast(places * 0 - 1, logits.dtype))

    def weight(self, rows: int) -> int:
        """It is the gradient of the sum already."""
        return 1


class LargestPlace(nn.Cell):
    """aclnnArgMax, which counts in int64."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.argmax = aclnn.ArgMaxExt()

    def construct(self, x: Tensor) -> Tensor:
        return ops.cast(self.argmax(x, -1, False), ms.int32)


class FoldBits(nn.Cell):
    """The shift as a division: without the bits that fall out it is exact, also where a device divides in float32."""

    def __init__(self, shift: int) -> None:
        super().__init__(auto_prefix=False)
        self.low_bits = (1 << shift) - 1
        self.divisor = Tensor(1 << shift, ms.int32)
        self.both, self.either, self.divide = aclnn.BitwiseAndScalar(), aclnn.BitwiseXorTensor(), aclnn.FloorDiv()

    def construct(self, x: Tensor) -> Tensor:
        return self.either(x, self.divide(x - self.both(x, self.low_bits), self.divisor))


class Assign(nn.Cell):
    """aclnnInplaceCopy."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.copy = aclnn.InplaceCopy()

    def construct(self, target: Parameter, value: Tensor) -> Tensor:
        return self.copy(target, value)


class AssignAdd(nn.Cell):
    """aclnnInplaceAdd."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.add = aclnn.InplaceAddExt()

    def construct(self, target: Parameter, value: Tensor) -> Tensor:
        return self.add(target, value, 1)


class WriteRows(nn.Cell):
    """aclnnInplaceIndexCopy; of rows for one place any may win."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.write = aclnn.InplaceIndexCopy()

    def construct(self, table: Parameter, places: Tensor, rows: Tensor) -> Tensor:
        return self.write(table, 0, places, rows)
