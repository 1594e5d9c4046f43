"""Products with weights in NF4, two codes a byte (Dettmers et al. 2023): on CPU by `mindcoder/native`.

A weight ``[out, in]`` is cut into blocks of neighbouring inputs. A code from 0 to 15 stands for a number from -1 to 1,
times its block's scale. With double quantization a scale is a byte, which stands for one of 256 numbers, times the
scale of 256 blocks, plus one offset of the whole weight.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.native_operator import Output, native_operator
from mindcoder.backend.nf4 import CODES, SCALE_BLOCK, scale_numbers
from mindcoder.backend.operator_source import on_cpu
from mindcoder.backend.operators import matrix_product
from mindcoder.backend.row_operators import Cut, LookUp


class Nf4Matmul(nn.Cell):
    """The library's operators ``Nf4Matmul`` and ``Nf4MatmulGrad``; arguments as of `Nf4Product`."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        scales = "absmax, nested_absmax, nested_offset, nested_map"
        self.forward = native_operator(
            "Nf4Matmul",
            f"x, weight, {scales}",
            {"y": Output(lambda shapes: [shapes["x"][0], shapes["weight"][0]], "x")},
        )
        self.backward = native_operator(
            "Nf4MatmulGrad",
            f"dy, weight, {scales}",
            {"dx": Output(lambda shapes: [shapes["dy"][0], 2 * shapes["weight"][1]], "dy")},
        )


class Nf4Floats(nn.Cell):
    """The numbers that codes stand for, by MindSpore's operators: ``construct(weight, absmax, ...) -> [out, in]``.

    Computed in float32 and rounded once. No gradient.

    Args:
        shape: outputs, inputs, and blocks of an output.
        compute_dtype: of the result, a name.
        nested: whether scales are bytes (double quantization), else float32.
    """

    def __init__(self, shape: tuple[int, int, int], compute_dtype: str, nested: bool) -> None:
        super().__init__(auto_prefix=False)
        outputs, inputs, blocks = shape
        self.dtype, self.nested = resolve_dtype(compute_dtype), nested
        # A row for each byte, the number of the high half first: shifts and masks of bytes have no kernel everywhere.
        octets = np.arange(256)
        self.pairs = Tensor(np.stack([CODES[octets >> 4], CODES[octets & 15]], 1))
        self.map = Tensor(scale_numbers().reshape(-1, 1))
        self.matrix, self.blocked = (outputs, inputs), (outputs * blocks, inputs // blocks)
        self.column, self.repeats = (outputs * blocks, 1), (1, inputs // blocks)
        self.all_blocks, self.is_cut = outputs * blocks, outputs * blocks % SCALE_BLOCK != 0
        self.look_up, self.cut, self.tile = LookUp(), Cut(0), ops.Tile()

    def scales(self, absmax: Tensor, nested_absmax: Tensor, nested_offset: Tensor) -> Tensor:
        """Of all blocks, float32 ``[out * blocks, 1]``."""
        if not self.nested:
            return absmax.reshape(self.column)
        above = self.tile(nested_absmax.reshape((-1, 1)), (1, SCALE_BLOCK)).reshape((-1, 1))
        if self.is_cut:
            above = self.cut(above, 0, self.all_blocks)
        numbers = self.look_up(self.map, ops.cast(absmax.reshape((-1,)), ms.int32))
        return numbers * above + nested_offset.reshape((1, 1))

    def construct(self, weight: Tensor, absmax: Tensor, nested_absmax: Tensor, nested_offset: Tensor) -> Tensor:
        numbers = self.look_up(self.pairs, ops.cast(weight.reshape((-1,)), ms.int32)).reshape(self.blocked)
        values = numbers * self.tile(self.scales(absmax, nested_absmax, nested_offset), self.repeats)
        return ops.cast(values.reshape(self.matrix), self.dtype)


class Nf4Product(nn.Cell):
    """``x @ weight.T`` of a frozen weight in NF4: ``construct(x [Q, in], weight, absmax, nested_absmax,
    nested_offset) -> [Q, out]`` in x's dtype.

    ``weight`` is uint8 ``[out, in / 2]``, the code of the even input in the high half; ``absmax`` uint8
    ``[out, blocks]``, ``nested_absmax`` float32 (one of 256 blocks, in row-major order) and ``nested_offset`` float32
    ``[1]``. Without double quantization ``absmax`` is float32, and the last two are not read. CPU multiplies the codes
    as they are stored; elsewhere the weight becomes floats first, forward and backward anew.

    Args:
        shape, compute_dtype, nested: as of `Nf4Floats`.
    """

    def __init__(self, shape: tuple[int, int, int], compute_dtype: str, nested: bool) -> None:
        super().__init__(auto_prefix=False)
        self.native = Nf4Matmul() if on_cpu() else None
        self.map = Tensor(scale_numbers())
        self.floats = Nf4Floats(shape, compute_dtype, nested)
        self.product = matrix_product(transpose_b=True, compute_dtype=compute_dtype)
        self.grad_input = matrix_product(compute_dtype=compute_dtype)

    def construct(
        self, x: Tensor, weight: Tensor, absmax: Tensor, nested_absmax: Tensor, nested_offset: Tensor
    ) -> Tensor:
        if self.native is not None:
            return self.native.forward(x, weight, absmax, nested_absmax, nested_offset, self.map)
        # Only now: MindSpore would compute the matrices of all layers first, of which it needs one at a time.
        return self.product(x, self.floats(ops.depend(weight, x), absmax, nested_absmax, nested_offset))

    def gradient(
        self, dout: Tensor, weight: Tensor, absmax: Tensor, nested_absmax: Tensor, nested_offset: Tensor
    ) -> Tensor:
        """Of ``x``, from that of the result."""
        if self.native is not None:
            return self.native.backward(dout, weight, absmax, nested_absmax, nested_offset, self.map)
        return self.grad_input(dout, self.floats(ops.depend(weight, dout), absmax, nested_absmax, nested_offset))
