"""Products with weights of integers: MindSpore's WeightQuantBatchMatmul, on CPU by `mindcoder/native`.

Both read the integers as they are stored: on CPU there is never a whole copy of the weight in floats.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.ops import auto_generate as aclnn

from mindcoder.backend.native_operator import Output, absent, integer, native_operator
from mindcoder.backend.operator_source import on_cpu
from mindcoder.backend.operators import matrix_product


class WeightQuantBatchMatmul(nn.Cell):
    """``construct(x [M, K], weight [N, K], scale, offset) -> [M, N]``: MindSpore's operator of this name, on CPU.

    Scales and offsets are ``[N]`` or ``[K / group_size, N]``; an integer stands for ``(q + offset) * scale``. A row's
    result may differ in its last bits between up to 16 rows and more.

    Args:
        bits: 8, or 4 for a weight uint8 ``[N, K / 2]`` (see `mindcoder.models.methods.base.NativeParameters`).
        group_size: inputs with one scale, a multiple of 32; 0 for all of an output.
    """

    def __init__(self, bits: int, group_size: int) -> None:
        super().__init__(auto_prefix=False)
        self.nothing, self.group_size = absent(), integer(group_size)
        self.as_it_is, self.transposed = Tensor(False), Tensor(True)
        self.per_byte = Tensor(np.zeros(8 // bits, np.uint8))
        self.forward = native_operator(
            "WeightQuantBatchMatmul",
            "x, weight, antiquant_scale, antiquant_offset, quant_scale, quant_offset, bias, transpose_x, "
            "transpose_weight, antiquant_group_size",
            {"y": Output(lambda shapes: [shapes["x"][0], shapes["weight"][0]], "x")},
        )
        self.backward = native_operator(
            "WeightQuantBatchMatmulGrad",
            "dy, weight, antiquant_scale, antiquant_offset, antiquant_group_size, per_byte",
            {"dx": Output(self.inputs_shape, "dy")},
        )

    @staticmethod
    def inputs_shape(shapes: dict[str, list[int]]) -> list[int]:
        """Of the gradient of ``x``."""
        return [shapes["dy"][0], shapes["weight"][1] * shapes["per_byte"][0]]

    def construct(self, x: Tensor, weight: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
        none = self.nothing
        lowered = none if offset is None else offset
        return self.forward(
            x, weight, scale, lowered, none, none, none, self.as_it_is, self.transposed, self.group_size
        )

    def gradient(self, dout: Tensor, weight: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
        """Of ``x``, from that of the result."""
        lowered = self.nothing if offset is None else offset
        return self.backward(dout, weight, scale, lowered, self.group_size, self.per_byte)


class DequantizedProduct(nn.Cell):
    """The same for an Ascend, where its operator does not do it: the weight becomes floats first.

    Args:
        bits, group_size: as of `WeightQuantBatchMatmul`.
    """

    def __init__(self, bits: int, group_size: int) -> None:
        super().__init__(auto_prefix=False)
        self.bits, self.group_size = bits, group_size
        self.product, self.grad_input = matrix_product(transpose_b=True), matrix_product()
        self.low_half = aclnn.BitwiseAndScalar()

    def construct(self, x: Tensor, weight: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
        return self.product(x, self.floats(weight, scale, offset, x.dtype))

    def gradient(self, dout: Tensor, weight: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
        """Of ``x``, from that of the result."""
        return self.grad_input(dout, self.floats(weight, scale, offset, dout.dtype))

    def floats(self, weight: Tensor, scale: Tensor, offset: Tensor | None, dtype: ms.Type) -> Tensor:
        """The weight ``[N, K]`` in ``dtype``, computed in float32."""
        numbers = ops.cast(weight, ms.float32)
        if self.bits == 4:
            low = ops.cast(self.low_half(weight, 15), ms.float32)
            numbers = ops.stack((low, (numbers - low) * 0.0625), 2) - 8.0
        outputs = weight.shape[0]
        inputs = weight.shape[1] * (8 // self.bits)
        size = inputs if self.group_size == 0 else self.group_size
        numbers = numbers.reshape((outputs, inputs // size, size))
        if offset is not None:
            numbers = numbers + self.of_groups(offset, outputs)
        return ops.cast((numbers * self.of_groups(scale, outputs)).reshape((outputs, inputs)), dtype)

    def of_groups(self, numbers: Tensor, outputs: int) -> Tensor:
        """``[N]`` or ``[groups, N]`` as float32 ``[N, groups, 1]``."""
        numbers = ops.cast(numbers, ms.float32)
        if self.group_size == 0:
            return numbers.reshape((outputs, 1, 1))
        return ops.transpose(numbers, (1, 0)).reshape((outputs, -1, 1))


class QuantizedProduct(nn.Cell):
    """``x @ weight.T`` of a frozen weight ``[out, in]`` whose integers stand for ``(q - offset) * scale``.

    ``construct(x [tokens, in], weight, scale [out, groups], offset) -> [tokens, out]`` in x's dtype, where offset has
    the shape of scale or is None; both are float32. An Ascend multiplies int8 by aclnnWeightQuantBatchMatmulV2, whose x
    is float16 or bfloat16, and scales and offsets too. With float32 or 4 bits the weight becomes floats first there, as
    it does for the gradient.

    Args:
        bits: 8 (weight int8), or 4 (uint8 ``[out, in / 2]``, see `mindcoder.models.methods.base.NativeParameters`).
        group_size: ``in / groups``, a multiple of 32; 0 for one group.
        compute_dtype: of x, a name.
    """

    def __init__(self, bits: int, group_size: int, compute_dtype: str) -> None:
        super().__init__(auto_prefix=False)
        self.group_size, self.operator = group_size, None
        self.product: WeightQuantBatchMatmul | DequantizedProduct
        if on_cpu():
            self.product = WeightQuantBatchMatmul(bits, group_size)
            return
        self.product = DequantizedProduct(bits, group_size)
        if bits == 8 and compute_dtype != "float32":
            self.operator = aclnn.WeightQuantBatchMatmul(False, True, group_size)

    def construct(self, x: Tensor, weight: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
        added = None if offset is None else self.turned(-offset)
        if self.operator is None:
            return self.product(x, weight, self.turned(scale), added)
        added = None if added is None else ops.cast(added, x.dtype)
        return self.operator(x, weight, ops.cast(self.turned(scale), x.dtype), added)

    def gradient(self, dout: Tensor, weight: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
        """Of ``x``, from that of the result."""
        added = None if offset is None else self.turned(-offset)
        return self.product.gradient(dout, weight, self.turned(scale), added)

    def turned(self, numbers: Tensor) -> Tensor:
        """``[out, groups]`` as the operator wants it: ``[out]`` or ``[groups, out]``."""
        return numbers.reshape((-1,)) if self.group_size == 0 else ops.transpose(numbers, (1, 0))
