"""Where an operator of a layer comes from: MindSpore, or `mindcoder/native`.

Layers are written in MindSpore's operators of an aclnn kernel. Those that MindSpore has no CPU kernel for are an
``ops.Custom`` of the same name there, with the same arguments and the gradient that MindSpore's operator has. A network
that is to be exported is built of `mindcoder.backend.portable_operators` instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.ops import auto_generate as aclnn

from mindcoder.backend.flash_operators import FlashAttentionScore, IncreFlashAttention
from mindcoder.backend.native_operator import Output, integer, like, native_operator, number
from mindcoder.backend.portable_operators import PORTABLE

PER_ROW = Output(lambda shapes: [shapes["x"][0], 1], ms.float32)
PREFERRED: ContextVar[Mapping[str, Any] | None] = ContextVar("operators that go before OWN", default=None)


def on_cpu() -> bool:
    """Whether this process computes on CPU."""
    return ms.get_context("device_target") == "CPU"


def operator(name: str, *arguments: Any, **options: Any) -> Any:
    """MindSpore's operator ``name``; on CPU the class of that name in `OWN`, where there is one.

    Args:
        arguments, options: of the operator's own constructor.
    """
    own = {**OWN, **(PREFERRED.get() or {})} if on_cpu() else {}
    return (own[name] if name in own else getattr(aclnn, name))(*arguments, **options)


def is_portable() -> bool:
    """Whether `operator` gives operators for an export just now."""
    return PREFERRED.get() is not None


@contextmanager
def portable_operators() -> Iterator[None]:
    """Within, `operator` gives those that a MindIR file can name; on CPU, and without gradients."""
    before = PREFERRED.set(PORTABLE)
    try:
        yield
    finally:
        PREFERRED.reset(before)


class LayerNormExt(nn.Cell):
    """``construct(x [Q, H], (H,), weight, bias, epsilon) -> (y, mean [Q, 1], rstd [Q, 1])``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = native_operator(
            "LayerNormExt", "x, normalized_shape, weight, bias, eps", {"y": like("x"), "mean": PER_ROW, "rstd": PER_ROW}
        )
        self.backward = native_operator(
            "LayerNormGradExt",
            "dy, x, normalized_shape, mean, rstd, weight, bias, output_mask",
            {"dx": like("x"), "dweight": like("weight"), "dbias": like("bias")},
        )
        self.wanted = Tensor([1, 1, 1], ms.int64)

    def construct(self, x: Tensor, shape: tuple, weight: Tensor, bias: Tensor, epsilon: float) -> tuple:
        sizes = Tensor(shape, ms.int64)
        return self.forward(x, sizes, weight, bias, number(epsilon))

    def bprop(self, x, shape, weight, bias, epsilon, out, dout):
        sizes = Tensor(shape, ms.int64)
        grads = self.backward(dout[0], x, sizes, out[1], out[2], weight, bias, self.wanted)
        return grads[0], shape, grads[1], grads[2], epsilon


class RmsNorm(nn.Cell):
    """``construct(x [Q, H], weight [H]) -> (y, rstd [Q, 1])``."""

    def __init__(self, epsilon: float) -> None:
        super().__init__(auto_prefix=False)
        self.epsilon = number(epsilon)
        self.forward = native_operator("RmsNorm", "x, weight, eps", {"y": like("x"), "rstd": PER_ROW})
        float32_weight = Output(lambda shapes: shapes["weight"], ms.float32)
        self.backward = native_operator(
            "RmsNormGrad", "dy, x, rstd, weight", {"dx": like("x"), "dweight": float32_weight}
        )

    def construct(self, x: Tensor, weight: Tensor) -> tuple:
        return self.forward(x, weight, self.epsilon)

    def bprop(self, x, weight, out, dout):
        grads = self.backward(dout[0], x, out[1], weight)
        return grads[0], ops.cast(grads[1], weight.dtype)


class Add(nn.Cell):
    """``construct(x, y) -> x``, where ``y`` may have fewer axes; its caller has the gradient.

    MindSpore's own kernel keeps a copy of what it broadcast as long as the graph lives, of each node.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = native_operator("Add", "a, b", {"sum": like("a")})

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        return self.forward(x, y)


class GeLU(nn.Cell):
    """``construct(x) -> x``: GELU in its tanh form."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = native_operator("GeLU", "x", {"y": like("x")})
        self.backward = GeLUGrad()

    def construct(self, x: Tensor) -> Tensor:
        return self.forward(x)

    def bprop(self, x, out, dout):
        return (self.backward(dout, x, x),)


class GeLUGrad(nn.Cell):
    """``construct(dy, x, y) -> dx``; reads no ``y``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.backward = native_operator("GeLUGrad", "dy, x, y", {"dx": like("x")})

    def construct(self, dy: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return self.backward(dy, x, y)


class SiLU(nn.Cell):
    """``construct(x) -> x``: ``x * sigmoid(x)``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward, self.backward = native_operator("SiLU", "x", {"y": like("x")}), SiLUGrad()

    def construct(self, x: Tensor) -> Tensor:
        return self.forward(x)

    def bprop(self, x, out, dout):
        return (self.backward(dout, x),)


class SiLUGrad(nn.Cell):
    """``construct(dy, x) -> dx``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.backward = native_operator("SiLUGrad", "dy, x", {"dx": like("x")})

    def construct(self, dy: Tensor, x: Tensor) -> Tensor:
        return self.backward(dy, x)


class MatMul(nn.Cell):
    """``construct(a, b)``: product of two matrices, either of them transposed first.

    MindSpore has one on CPU, at half the speed of ``mindcoder/native/gemm.h`` where there is a matrix unit.

    Args:
        rounds: factors to bfloat16 first, where that is faster.
    """

    # Flags as inputs: shapes can only depend on shapes, so the one of a transposed factor has two elements.
    PLAIN, TRANSPOSED = np.zeros(1, np.bool_), np.ones(2, np.bool_)

    def __init__(self, transpose_a: bool = False, transpose_b: bool = False, rounds: bool = False) -> None:
        super().__init__(auto_prefix=False)
        self.transpose_a, self.transpose_b = transpose_a, transpose_b
        self.plain, self.transposed = Tensor(self.PLAIN), Tensor(self.TRANSPOSED)
        self.product = native_operator(
            "MatMul",
            "a, b, transpose_a, transpose_b, terms",
            {"product": Output(self.product_shape, "a")},
        )
        self.terms = integer(1 if rounds else 3)

    @staticmethod
    def product_shape(shapes: dict[str, list[int]]) -> list[int]:
        a, b = shapes["a"], shapes["b"]
        return [a[1] if shapes["transpose_a"][0] == 2 else a[0], b[2 - shapes["transpose_b"][0]]]

    def multiply(self, a: Tensor, b: Tensor, transposes_a: bool, transposes_b: bool) -> Tensor:
        flag_a = self.transposed if transposes_a else self.plain
        flag_b = self.transposed if transposes_b else self.plain
        return self.product(a, b, flag_a, flag_b, self.terms)

    def construct(self, a: Tensor, b: Tensor) -> Tensor:
        return self.multiply(a, b, self.transpose_a, self.transpose_b)

    def bprop(self, a, b, out, dout):
        turned_a, turned_b = self.transpose_a, self.transpose_b
        grad_a = self.multiply(b, dout, turned_b, True) if turned_a else self.multiply(dout, b, False, not turned_b)
        grad_b = self.multiply(dout, a, True, turned_a) if turned_b else self.multiply(a, dout, not turned_a, False)
        return grad_a, grad_b


class RotaryPositionEmbedding(nn.Cell):
    """``construct(x [1, Q, N, D], cos, sin, mode) -> [1, Q, N, D]``; its caller has the gradient."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = native_operator("RotaryPositionEmbedding", "x, cos, sin, mode", {"y": like("x")})

    def construct(self, x: Tensor, cos: Tensor, sin: Tensor, mode: int) -> Tensor:
        return self.forward(x, cos, sin, integer(mode))


class IndexSelect(nn.Cell):
    """``construct(x, axis, index) -> x`` at those indices of axis 0 or 1; its callers have the gradient."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.select = native_operator("IndexSelect", "x, axis, index", {"y": Output(self.selected_shape, "x")})
        # Axis 1 as two elements, so that shapes follow from shapes.
        self.axes = Tensor([0], ms.int64), Tensor([1, 1], ms.int64)

    @staticmethod
    def selected_shape(shapes: dict[str, list[int]]) -> list[int]:
        x, count = shapes["x"], shapes["index"][0]
        return [count, *x[1:]] if shapes["axis"][0] == 1 else [x[0], count, *x[2:]]

    def construct(self, x: Tensor, axis: int, index: Tensor) -> Tensor:
        return self.select(x, self.axes[axis], index)


class IndexAddExt(nn.Cell):
    """``construct(table, 0, index, rows, factor) -> table``; its callers have the gradient."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = native_operator("IndexAddExt", "table, axis, index, rows, factor", {"y": like("table")})

    def construct(self, table: Tensor, axis: int, index: Tensor, rows: Tensor, factor: int) -> Tensor:
        return self.forward(table, integer(axis), index, rows, integer(factor))


class EmbeddingDenseBackward(nn.Cell):
    """``construct(grad [I, H], index [I], rows) -> [rows, H]``. A Custom's shapes cannot depend on ``rows``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.add = IndexAddExt()

    def construct(self, grad: Tensor, index: Tensor, rows: int) -> Tensor:
        return self.add(ops.zeros((rows, grad.shape[1]), grad.dtype), 0, index, grad, 1)


class ScatterAddExt(nn.Cell):
    """``construct(x [Q, V], 1, index [Q, I], values [Q, I]) -> [Q, V]``; its caller has the gradient."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = native_operator("ScatterAddExt", "x, axis, index, values", {"y": like("x")})

    def construct(self, x: Tensor, axis: int, index: Tensor, values: Tensor) -> Tensor:
        return self.forward(x, integer(axis), index, values)


class Norm(nn.Cell):
    """``construct(x) -> ()``: the square root of the elements' squared sum."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.power, self.keep, self.nothing = number(2.0), Tensor(False), Tensor(np.zeros(0, np.int64))
        self.forward = native_operator(
            "Norm",
            "x, p, axes, keepdim, dtype",
            {"norm": Output(lambda shapes: [], "x")},
        )

    def construct(self, x: Tensor) -> Tensor:
        return self.forward(x, self.power, self.nothing, self.keep, self.nothing)


class TensorToScalar(nn.Cell):
    """``construct(x) -> x``: the operators here take their numbers as tensors."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)

    def construct(self, x: Tensor) -> Tensor:
        return x


class AdamW(nn.Cell):
    """``construct(weight, m, v, max_v, gradient, step, rate, beta1, beta2, decay, eps, amsgrad, maximize)``, in place.

    What it gives is only to be waited for. The rate is a tensor, the decay one or a number.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        done = Output(lambda shapes: [1], "weight")
        self.forward = native_operator(
            "AdamW",
            "weight, m, v, max_v, gradient, step, lr, beta1, beta2, decay, eps, amsgrad, maximize",
            {"weight_done": done, "m_done": done, "v_done": done},
        )

    def construct(
        self, weight, m, v, max_v, gradient, step, rate, beta1, beta2, decay, eps, amsgrad, maximize
    ) -> tuple:
        lost = number(decay) if isinstance(decay, float) else decay
        return self.forward(
            *(weight, m, v, max_v, gradient, step, rate, number(beta1), number(beta2), lost, number(eps)),
            *(Tensor(amsgrad), Tensor(maximize)),
        )


class InplaceIndexCopy(nn.Cell):
    """``construct(table, 0, index, rows)`` writes the rows; what it gives is only to be waited for."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = native_operator(
            "InplaceIndexCopy", "table, axis, index, rows", {"done": Output(lambda shapes: [1], "table")}
        )

    def construct(self, table: Tensor, axis: int, index: Tensor, rows: Tensor) -> Tensor:
        return self.forward(table, integer(axis), index, rows)


class InplaceAddExt(nn.Cell):
    """``construct(target, value, 1) -> target``; MindSpore's has no CPU kernel in PyNative mode."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.add = ops.AssignAdd()

    def construct(self, target: Parameter, value: Tensor, factor: int) -> Tensor:
        return self.add(target, value)


class CumsumExt(nn.Cell):
    """``construct(x [Q] int32, 0) -> x``: the sums of its elements up to each."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.same_dtype = Tensor(np.zeros(0, np.int64))
        self.forward = native_operator("CumsumExt", "x, axis, dtype", {"sums": like("x")})

    def construct(self, x: Tensor, axis: int) -> Tensor:
        return self.forward(x, integer(axis), self.same_dtype)


class BitwiseAndScalar(nn.Cell):
    """``construct(x, mask)`` of int32."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = native_operator("BitwiseAndScalar", "x, mask", {"y": like("x")})

    def construct(self, x: Tensor, mask: int) -> Tensor:
        return self.forward(x, integer(mask))


class BitwiseXorTensor(nn.Cell):
    """``construct(x, y)`` of int32."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = native_operator("BitwiseXorTensor", "a, b", {"y": like("a")})

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        return self.forward(x, y)


OWN = {
    own.__name__: own
    for own in (
        *(LayerNormExt, RmsNorm, Add, GeLU, GeLUGrad, SiLU, SiLUGrad, MatMul, RotaryPositionEmbedding),
        *(IndexSelect, IndexAddExt, EmbeddingDenseBackward, ScatterAddExt, Norm, TensorToScalar, AdamW),
        *(
            FlashAttentionScore,
            IncreFlashAttention,
            InplaceAddExt,
            InplaceIndexCopy,
            CumsumExt,
            BitwiseAndScalar,
            BitwiseXorTensor,
        ),
    )
}
