"""Products of integers with integers (W8A8): MindSpore's DynamicQuantExt, QuantV2 and QuantBatchMatmul, on CPU by
`mindcoder/native`.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.ops import auto_generate as aclnn

from mindcoder.backend.dequantize import Dequantize
from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.native_operator import Output, absent, native_operator
from mindcoder.backend.operator_source import is_portable, on_cpu
from mindcoder.backend.operators import matrix_product
from mindcoder.backend.portable_integers import IntegerProduct

LARGEST = 127.0  # of the integers of a token whose scale is its own
SMALLEST = 1e-30  # a magnitude by which a token of zeros can be divided
INT8 = Output(lambda shapes: shapes["x"], ms.int8)
MOST_INPUTS = 65535  # of a product on a card; on CPU sums of so many fit into int32


class DynamicQuantExt(nn.Cell):
    """``construct(x [Q, in]) -> (int8 [Q, in], float32 [Q])``: MindSpore's operator of this name, on CPU.

    A token's scale is its largest magnitude / 127, of nothing but zeros 0.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.nothing = absent()
        scale = Output(lambda shapes: shapes["x"][:1], ms.float32)
        self.forward = native_operator("DynamicQuantExt", "x, smooth_scales", {"y": INT8, "scale": scale})

    def construct(self, x: Tensor) -> tuple:
        return self.forward(x, self.nothing)


class QuantV2(nn.Cell):
    """``construct(x [Q, in], scale, offset) -> int8``: ``round(x * scale + offset)`` within -128 and 127.

    Scale and offset are float32 ``[1]``, or ``[in]``.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = native_operator("QuantV2", "x, scale, offset", {"y": INT8})

    def construct(self, x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        return self.forward(x, scale, offset)


class AscendQuantV2(nn.Cell):
    """`QuantV2` on a card: aclnnAscendQuant, whose scale and offset have x's dtype; float32 keeps all their bits."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.forward = aclnn.QuantV2()

    def construct(self, x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        return self.forward(ops.cast(x, ms.float32), scale, offset, False, "ROUND", ms.int8)


class AscendRound(nn.Cell):
    """``construct(x float32) -> int8``, on a card: the nearest integers within -128 and 127, of two the even one.

    By aclnnAscendQuant: MindSpore's Round is aclnnRoundDecimals there, for which softcann has no operator.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.quant = aclnn.QuantV2()
        self.one, self.zero = Tensor(np.ones(1), ms.float32), Tensor(np.zeros(1), ms.float32)

    def construct(self, x: Tensor) -> Tensor:
        return self.quant(x, self.one, self.zero, False, "ROUND", ms.int8)


class QuantBatchMatmul(nn.Cell):
    """``construct(x1 int8 [Q, in], x2 int8 [out, in], scale [out], offset, bias, row_scale [Q]) -> [Q, out]``:
    MindSpore's operator of this name with ``transpose_x2``, on CPU: ``(x1 @ x2.T + bias) * scale * row_scale``.

    There is no offset; bias is int32 ``[out]`` or None.

    Args:
        dtype: of the result.
    """

    def __init__(self, dtype: ms.dtype.Number) -> None:
        super().__init__(auto_prefix=False)
        self.nothing, self.like = absent(), Tensor(np.zeros(1), dtype)
        self.as_it_is, self.transposed = Tensor(False), Tensor(True)
        self.forward = native_operator(
            "QuantBatchMatmul",
            "x1, x2, scale, offset, bias, pertoken_scale, transpose_x1, transpose_x2, dtype",
            {"y": Output(lambda shapes: [shapes["x1"][0], shapes["x2"][0]], "dtype")},
        )

    def construct(
        self, x1: Tensor, x2: Tensor, scale: Tensor, offset: None, bias: Tensor | None, row_scale: Tensor
    ) -> Tensor:
        none = self.nothing
        added = none if bias is None else bias
        return self.forward(x1, x2, scale, none, added, row_scale, self.as_it_is, self.transposed, self.like)


class RoundRows(nn.Cell):
    """Rows in integers: ``construct(x [Q, in]) -> (int8 [Q, in], float32 [Q])``, each by its largest magnitude / 127.

    Args:
        dtype: of x; with float32 an Ascend has no operator for it.
    """

    def __init__(self, dtype: ms.dtype.Number) -> None:
        super().__init__(auto_prefix=False)
        self.operator: Any = None
        self.tile, self.whole = ops.Tile(), AscendRound()
        if on_cpu():
            self.operator = DynamicQuantExt()
        elif dtype != ms.float32:
            self.operator = aclnn.DynamicQuantExt()

    def construct(self, x: Tensor) -> tuple:
        if self.operator is not None:
            return self.operator(x)
        scale = ops.maximum(ops.amax(ops.abs(x), 1, True), SMALLEST) / LARGEST
        return self.whole(x / self.tile(scale, (1, x.shape[1]))), scale.reshape((-1,))


class Int8Product(nn.Cell):
    """``x @ weight.T`` of a frozen weight int8 ``[out, in]``, with x in integers, too.

    ``construct(x [Q, in], weight, scale [out, 1], *rounding) -> [Q, out]`` in x's dtype. ``rounding`` is
    either empty, then each token is divided by its largest magnitude / 127; or of all tokens: 1 / scale, scale and
    offset, float32 ``[1]`` each, and ``-offset * weight.sum(1)``, int32 ``[out]``. The sums of integers are exact.

    CPU has the operators in every dtype. An Ascend multiplies so in float16 and bfloat16; in float32 the same integers
    are multiplied as floats there, as they are in a graph for export.

    Args:
        outputs, inputs: of the weight.
        compute_dtype: of x, a name.
    """

    def __init__(self, outputs: int, inputs: int, compute_dtype: str) -> None:
        super().__init__(auto_prefix=False)
        self.dtype, self.tile = resolve_dtype(compute_dtype), ops.Tile()
        self.by_token: Any = None
        self.by_tensor: Any = None
        self.multiply: Any = None
        self.whole = AscendRound()
        self.portable: IntegerProduct | None = None
        if is_portable():
            self.portable = IntegerProduct()
        elif on_cpu():
            self.by_token, self.by_tensor = DynamicQuantExt(), QuantV2()
            self.multiply = QuantBatchMatmul(self.dtype)
        elif compute_dtype != "float32" and inputs <= MOST_INPUTS:
            self.by_token, self.by_tensor = aclnn.DynamicQuantExt(), AscendQuantV2()
            self.multiply = aclnn.QuantBatchMatmul(False, True, self.dtype)
        self.dequantize = Dequantize((outputs, inputs, 1), 8, compute_dtype)
        self.product = matrix_product(transpose_b=True, compute_dtype=compute_dtype)
        self.grad_input = matrix_product(compute_dtype=compute_dtype)

    def construct(self, x: Tensor, weight: Tensor, scale: Tensor, *rounding: Tensor) -> Tensor:
        if self.portable is not None:
            return self.portable(x, weight, scale, rounding)
        if self.multiply is None:
            return self.product(self.rounded(x, rounding), self.floats(ops.depend(weight, x), scale))
        if len(rounding) == 0:
            numbers, scales = self.by_token(x)
            return self.multiply(numbers, weight, scale.reshape((-1,)), None, None, scales)
        inverse, step, offset, added = rounding
        scales = self.tile(step, (x.shape[0],))
        return self.multiply(self.by_tensor(x, inverse, offset), weight, scale.reshape((-1,)), None, added, scales)

    def gradient(self, dout: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        """Of ``x``, from that of the result, as if x were not rounded (the straight-through estimate)."""
        return self.grad_input(dout, self.floats(ops.depend(weight, dout), scale))

    def floats(self, weight: Tensor, scale: Tensor) -> Tensor:
        """The numbers that the integers stand for, ``[out, in]`` in the compute dtype."""
        return self.dequantize(weight, scale)

    def rounded(self, x: Tensor, rounding: tuple) -> Tensor:
        """The floats that x's integers stand for."""
        values = ops.cast(x, ms.float32)
        if len(rounding) == 0:
            step = ops.maximum(ops.amax(ops.abs(values), 1, True), SMALLEST) / LARGEST
            step = self.tile(step, (1, x.shape[1]))
            return ops.cast(ops.cast(self.whole(values / step), ms.float32) * step, self.dtype)
        inverse, step, offset, _ = rounding
        numbers = ops.cast(self.whole(values * inverse + offset), ms.float32)
        return ops.cast((numbers - offset) * step, self.dtype)
