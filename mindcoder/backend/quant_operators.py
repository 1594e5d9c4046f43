"""Products with weights of integers: MindSpore's WeightQuantBatchMatmul, on CPU by `mindcoder/native`.

Both read the integers as they are stored: on CPU there is never a whole copy of the weight in floats.
"""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.ops import auto_generate as aclnn

from mindcoder.backend.dequantize import Dequantize, DequantizeLowered
from mindcoder.backend.native_operator import Output, absent, integer, native_operator
from mindcoder.backend.operator_source import is_portable, on_cpu
from mindcoder.backend.operators import matrix_product
from mindcoder.backend.portable_integers import WeightOnlyProduct

GROUP = 32  # groups that the operators know are a multiple of it


class WeightQuantBatchMatmul(nn.Cell):
    """``construct(x [Q, in], weight [out, in], scale, offset) -> [Q, out]``: MindSpore's operator of this name, on CPU.

    Scales and offsets are ``[out]`` or ``[in / group_size, out]``; an integer stands for ``(q + offset) * scale``. A
    row's result may differ in its last bits between up to 16 rows and more.

    Args:
        bits: 8, or 4 for a weight uint8 ``[out, in / 2]`` (see `mindcoder.models.methods.base.NativeParameters`).
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


class QuantizedProduct(nn.Cell):
    """``x @ weight.T`` of a frozen weight ``[out, in]`` whose integers stand for ``(q - offset) * scale``.

    ``construct(x [Q, in], weight, scale [out, groups], offset) -> [Q, out]`` in x's dtype, where offset has
    the shape of scale or is None; both are float32.

    CPU multiplies by `WeightQuantBatchMatmul`. An Ascend multiplies int8 by aclnnWeightQuantBatchMatmulV2, whose x is
    float16 or bfloat16, and scales and offsets too. With float32 or 4 bits there, for its gradient, and in groups of
    another size, the weight becomes floats first. In a graph for export int8 with a scale for each output is multiplied
    by `WeightOnlyProduct`, everything else becomes floats first.

    Args:
        shape: outputs, inputs, and groups.
        bits: 8 (weight int8), or 4 (uint8 ``[out, in / 2]``, see `mindcoder.models.methods.base.NativeParameters`).
        compute_dtype: of x, a name.
        has_offset: whether offsets are given.
    """

    def __init__(self, shape: tuple[int, int, int], bits: int, compute_dtype: str, has_offset: bool) -> None:
        super().__init__(auto_prefix=False)
        outputs, inputs, groups = shape
        self.group_size = 0 if groups == 1 else inputs // groups
        self.native: WeightQuantBatchMatmul | None = None
        self.operator = None
        self.portable: WeightOnlyProduct | None = None
        if is_portable():
            self.portable = WeightOnlyProduct() if groups == 1 and bits == 8 else None
        elif self.group_size % GROUP == 0:
            if on_cpu():
                self.native = WeightQuantBatchMatmul(bits, self.group_size)
            elif bits == 8 and compute_dtype != "float32":
                self.operator = aclnn.WeightQuantBatchMatmul(False, True, self.group_size)
        self.dequantize = (DequantizeLowered if has_offset else Dequantize)(shape, bits, compute_dtype)
        self.product = matrix_product(transpose_b=True, compute_dtype=compute_dtype)
        self.grad_input = matrix_product(compute_dtype=compute_dtype)

    def construct(self, x: Tensor, weight: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
        if self.portable is not None:
            return self.portable(x, weight, scale, offset)
        if self.native is not None:
            return self.native(x, weight, self.operator_layout(scale), self.added(offset))
        if self.operator is not None:
            added = None if offset is None else ops.cast(self.added(offset), x.dtype)
            return self.operator(x, weight, ops.cast(self.operator_layout(scale), x.dtype), added)
        # Only now: MindSpore would compute the matrices of all layers first, of which it needs one at a time.
        return self.product(x, self.floats(ops.depend(weight, x), scale, offset))

    def gradient(self, dout: Tensor, weight: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
        """Of ``x``, from that of the result."""
        if self.native is not None:
            return self.native.gradient(dout, weight, self.operator_layout(scale), self.added(offset))
        # Computed anew: the compiler would keep the matrix of the forward pass.
        return self.grad_input(dout, self.floats(ops.depend(weight, dout), scale, offset))

    def floats(self, weight: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
        """The numbers that the integers stand for, ``[out, in]`` in the compute dtype."""
        if offset is None:
            return self.dequantize(weight, scale)
        return self.dequantize(weight, scale, offset)

    def added(self, offset: Tensor | None) -> Tensor | None:
        """The offset as the operators take it, which add it."""
        return None if offset is None else self.operator_layout(-offset)

    def operator_layout(self, numbers: Tensor) -> Tensor:
        """``[out, groups]`` as the operators take it: ``[out]`` or ``[groups, out]``."""
        return numbers.reshape((-1,)) if self.group_size == 0 else ops.transpose(numbers, (1, 0))
