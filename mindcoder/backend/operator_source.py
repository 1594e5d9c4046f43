"""Where an operator of a layer comes from: MindSpore, or `mindcoder/native`.

Layers are written in MindSpore's operators of an aclnn kernel. Those that MindSpore has no CPU kernel for are an
``ops.Custom`` of the same name there, with the same arguments and the gradient that MindSpore's operator has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.ops import CustomRegOp, DataType
from mindspore.ops import auto_generate as aclnn

from mindcoder.backend.library import LIBRARY

LAYOUTS = {"BSH": 0, "TND": 4}  # MindSpore's FASInputLayoutMode
STATISTICS = 8  # numbers that stand for a row's maximum or sum


def on_cpu() -> bool:
    """Whether this process computes on CPU."""
    return ms.get_context("device_target") == "CPU"


def operator(name: str, *arguments: Any, **options: Any) -> Any:
    """MindSpore's operator ``name``; on CPU the class of that name below, where there is one.

    Args:
        arguments, options: of the operator's own constructor.
    """
    return (OWN[name] if name in OWN and on_cpu() else getattr(aclnn, name))(*arguments, **options)


def function(name: str, inputs: int, shapes: Callable, dtypes: Callable | None = None, outputs: int = 1) -> ops.Custom:
    """The function ``name`` of the library.

    All of one name must infer the same: MindSpore 2.9 asks now and then another one of them (seen when a network was
    compiled for a third shape). So ``shapes`` and ``dtypes`` must not close over anything.

    Args:
        inputs, outputs: number of tensors. Attributes are inputs, too.
        shapes: of the outputs, from those of the inputs.
        dtypes: of the outputs, from those of the inputs; the first's by default.
    """
    described = CustomRegOp(f"MindCoder{name}")
    for index in range(inputs):
        described = described.input(index, f"input_{index}")
    for index in range(outputs):
        described = described.output(index, f"output_{index}")
    described = described.dtype_format(*[DataType.None_None] * (inputs + outputs)).target("CPU")
    info = described.get_op_info()
    return ops.Custom(f"{LIBRARY}:{name}", shapes, dtypes or (lambda *given: given[0]), func_type="aot", reg_info=info)


def integer(value: int) -> Tensor:
    return Tensor(value, ms.int64)


def number(value: float) -> Tensor:
    return Tensor(value, ms.float32)


class LayerNormExt(nn.Cell):
    """``construct(x [R, H], (H,), weight, bias, epsilon) -> (y, mean [R, 1], rstd [R, 1])``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = function(
            *("LayerNormExt", 5),
            lambda x, *_: (x, [x[0], 1], [x[0], 1]),
            lambda x, *_: (x, ms.float32, ms.float32),
            outputs=3,
        )
        self.backward = function(
            *("LayerNormGradExt", 8),
            lambda dy, x, shape, mean, rstd, weight, bias, mask: (x, weight, bias),
            lambda dy, x, shape, mean, rstd, weight, bias, mask: (x, weight, bias),
            outputs=3,
        )
        self.wanted = Tensor([1, 1, 1], ms.int64)

    def construct(self, x: Tensor, shape: tuple, weight: Tensor, bias: Tensor, epsilon: float) -> tuple:
        return self.forward(x, Tensor(shape, ms.int64), weight, bias, number(epsilon))

    def bprop(self, x, shape, weight, bias, epsilon, out, dout):
        sizes = Tensor(shape, ms.int64)
        grads = self.backward(dout[0], x, sizes, out[1], out[2], weight, bias, self.wanted)
        return grads[0], shape, grads[1], grads[2], epsilon


class RmsNorm(nn.Cell):
    """``construct(x [R, H], weight [H]) -> (y, rstd [R, 1])``."""

    def __init__(self, epsilon: float) -> None:
        super().__init__(auto_prefix=False)
        self.epsilon = number(epsilon)
        self.forward = function("RmsNorm", 3, lambda x, *_: (x, [x[0], 1]), lambda x, *_: (x, ms.float32), outputs=2)
        self.backward = function(
            *("RmsNormGrad", 4),
            lambda dy, x, rstd, weight: (x, weight),
            lambda dy, x, rstd, weight: (x, ms.float32),
            outputs=2,
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
        self.forward = function("Add", 2, lambda x, y: x)

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        return self.forward(x, y)


class GeLU(nn.Cell):
    """``construct(x) -> x``: GELU in its tanh form."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = function("GeLU", 1, lambda x: x)
        self.backward = GeLUGrad()

    def construct(self, x: Tensor) -> Tensor:
        return self.forward(x)

    def bprop(self, x, out, dout):
        return (self.backward(dout, x, x),)


class GeLUGrad(nn.Cell):
    """``construct(dy, x, y) -> dx``; reads no ``y``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.backward = function("GeLUGrad", 3, lambda dy, x, y: x)

    def construct(self, dy: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return self.backward(dy, x, y)


class SiLU(nn.Cell):
    """``construct(x) -> x``: ``x * sigmoid(x)``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward, self.backward = function("SiLU", 1, lambda x: x), SiLUGrad()

    def construct(self, x: Tensor) -> Tensor:
        return self.forward(x)

    def bprop(self, x, out, dout):
        return (self.backward(dout, x),)


class SiLUGrad(nn.Cell):
    """``construct(dy, x) -> dx``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.backward = function("SiLUGrad", 2, lambda dy, x: x)

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
        self.terms = integer(1 if rounds else 3)
        self.transpose_a, self.transpose_b = transpose_a, transpose_b
        self.plain, self.transposed = Tensor(self.PLAIN), Tensor(self.TRANSPOSED)
        self.product = function(
            "MatMul", 5, lambda a, b, flag_a, flag_b, terms: [a[1] if flag_a[0] == 2 else a[0], b[2 - flag_b[0]]]
        )

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
    """``construct(x [1, T, N, D], cos, sin, mode) -> [1, T, N, D]``; its caller has the gradient."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = function("RotaryPositionEmbedding", 4, lambda x, *_: x)

    def construct(self, x: Tensor, cos: Tensor, sin: Tensor, mode: int) -> Tensor:
        return self.forward(x, cos, sin, integer(mode))


class IndexSelect(nn.Cell):
    """``construct(x, axis, index) -> x`` at those indices of axis 0 or 1; its callers have the gradient."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        # Axis 1 as two elements, so that shapes follow from shapes.
        self.select = function(
            *("IndexSelect", 3),
            lambda x, axis, index: [index[0], *x[1:]] if axis[0] == 1 else [x[0], index[0], *x[2:]],
        )
        self.axes = Tensor([0], ms.int64), Tensor([1, 1], ms.int64)

    def construct(self, x: Tensor, axis: int, index: Tensor) -> Tensor:
        return self.select(x, self.axes[axis], index)


class IndexAddExt(nn.Cell):
    """``construct(table, 0, index, rows, factor) -> table``; its callers have the gradient."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = function("IndexAddExt", 5, lambda table, *_: table)

    def construct(self, table: Tensor, axis: int, index: Tensor, rows: Tensor, factor: int) -> Tensor:
        return self.forward(table, integer(axis), index, rows, integer(factor))


class EmbeddingDenseBackward(nn.Cell):
    """``construct(grad [P, H], index [P], rows) -> [rows, H]``. A Custom's shapes cannot depend on ``rows``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.add = IndexAddExt()

    def construct(self, grad: Tensor, index: Tensor, rows: int) -> Tensor:
        return self.add(ops.zeros((rows, grad.shape[1]), grad.dtype), 0, index, grad, 1)


class ScatterAddExt(nn.Cell):
    """``construct(x [R, V], 1, index [R, P], values [R, P]) -> [R, V]``; its caller has the gradient."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = function("ScatterAddExt", 4, lambda x, *_: x)

    def construct(self, x: Tensor, axis: int, index: Tensor, values: Tensor) -> Tensor:
        return self.forward(x, integer(axis), index, values)


class Norm(nn.Cell):
    """``construct(x) -> ()``: the square root of the elements' squared sum."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = function("Norm", 5, lambda *_: [], outputs=1)
        self.power, self.no_axes = number(2.0), Tensor(np.zeros(0, np.int64))
        self.keep, self.same_dtype = Tensor(False), Tensor(np.zeros(0, np.int64))

    def construct(self, x: Tensor) -> Tensor:
        return self.forward(x, self.power, self.no_axes, self.keep, self.same_dtype)


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
        self.forward = function("AdamW", 13, lambda *_: ([1], [1], [1]), lambda weight, *_: (weight,) * 3, outputs=3)

    def construct(
        self, weight, m, v, max_v, gradient, step, rate, beta1, beta2, decay, eps, amsgrad, maximize
    ) -> tuple:
        lost = number(decay) if isinstance(decay, float) else decay
        return self.forward(
            *(weight, m, v, max_v, gradient, step, rate, number(beta1), number(beta2), lost, number(eps)),
            *(Tensor(amsgrad), Tensor(maximize)),
        )


class FlashAttentionScore(nn.Cell):
    """``construct(query, key, value, None, drop, None, mask, None, query_ends, key_ends) -> (max, sum, _, out)``.

    Args:
        as MindSpore's: heads, share kept of the probabilities, scale, tokens before and after, precision, layout (BSH,
        or TND with ends), sparse mode.
    """

    def __init__(
        self, heads: int, keep: float, scale: float, before: int, after: int, precise: int, layout: str, mode: int
    ) -> None:
        super().__init__(auto_prefix=False)
        self.options = (
            *(integer(heads), number(keep), number(scale), integer(before), integer(after), integer(precise)),
            *(integer(LAYOUTS[layout]), integer(mode)),
        )
        self.absent = Tensor(np.zeros(0, np.uint8))
        # Says to what infers shapes the number of heads of BSH.
        self.no_shift = Tensor(np.zeros((0, heads) if layout == "BSH" else 0, np.uint8))
        self.forward = function(
            *("FlashAttentionScore", 18),
            lambda query, key, value, shift, *_: (
                *(([query[0], *shift[1:], query[1], STATISTICS],) * 2),
                *([1], query),
            ),
            lambda query, *_: (ms.float32, ms.float32, query, query),
            outputs=4,
        )
        self.backward = function(
            *("FlashAttentionScoreGrad", 23),
            lambda query, key, value, *_: (query, key, value, [1]),
            lambda query, key, value, *_: (query, key, value, query),
            outputs=4,
        )

    def construct(
        self, query: Tensor, key: Tensor, value: Tensor, shift, drop, padding, mask, prefix, query_ends, key_ends
    ) -> tuple:
        none = self.absent
        drop = none if drop is None else drop
        query_ends, key_ends = (none, none) if query_ends is None else (query_ends, key_ends)
        return self.forward(
            *(query, key, value, self.no_shift, drop, none, mask, none, query_ends, key_ends), *self.options
        )

    def bprop(self, query, key, value, shift, drop, padding, mask, prefix, query_ends, key_ends, out, dout):
        none = self.absent
        dropped = none if drop is None else drop
        ends = (none, none) if query_ends is None else (query_ends, key_ends)
        grads = self.backward(
            *(query, key, value, dout[3], none, dropped, none, mask, out[0], out[1], out[2], out[3]),
            *(none, *ends),
            *self.options,
        )
        no_drop = drop if drop is None else ops.zeros_like(drop)
        no_ends = query_ends if query_ends is None else ops.zeros_like(query_ends)
        return grads[0], grads[1], grads[2], shift, no_drop, padding, ops.zeros_like(mask), prefix, no_ends, no_ends


class IncreFlashAttention(nn.Cell):
    """``construct(query [B, 1, N*D], (keys,), (values,), mask, lengths [B], None, ..., tables [B, M]) -> [B, 1, N*D]``.

    Attention of one token a sequence to a cache ``[blocks * block_size, K*D]``, layout BSH.
    """

    def __init__(
        self, heads: int, layout: str, scale: float, kv_heads: int, block_size: int, inner_precise: int
    ) -> None:
        super().__init__(auto_prefix=False)
        assert layout == "BSH"
        self.forward = function("IncreFlashAttention", 21, lambda query, *_: query)
        self.absent = Tensor(np.zeros(0, np.uint8))
        self.options = (
            *(integer(heads), integer(LAYOUTS[layout]), number(scale), integer(kv_heads), integer(block_size)),
            integer(inner_precise),
        )

    def construct(
        self, query, keys, values, mask, lengths, shift, scale_1, scale_2, scale_3, scale_4, offset, antiquant_scale,
        antiquant_offset, tables,
    ) -> Tensor:  # fmt: skip
        none = self.absent
        seen = none if mask is None else mask
        return self.forward(
            *(query, keys[0], values[0], seen, lengths, none, none, none, none, none, none, none, none, tables, none),
            *self.options,
        )


class InplaceIndexCopy(nn.Cell):
    """``construct(table, 0, index, rows)`` writes the rows; what it gives is only to be waited for."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = function("InplaceIndexCopy", 4, lambda *_: [1])

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
    """``construct(x [P] int32, 0) -> x``: the sums of its elements up to each."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = function("CumsumExt", 3, lambda x, *_: x)
        self.same_dtype = Tensor(np.zeros(0, np.int64))

    def construct(self, x: Tensor, axis: int) -> Tensor:
        return self.forward(x, integer(axis), self.same_dtype)


class BitwiseAndScalar(nn.Cell):
    """``construct(x, mask)`` of int32."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = function("BitwiseAndScalar", 2, lambda x, mask: x)

    def construct(self, x: Tensor, mask: int) -> Tensor:
        return self.forward(x, integer(mask))


class BitwiseXorTensor(nn.Cell):
    """``construct(x, y)`` of int32."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = function("BitwiseXorTensor", 2, lambda x, y: x)

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
