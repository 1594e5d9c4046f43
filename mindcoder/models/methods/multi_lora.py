"""Several low-rank updates on one weight, one of which each token takes (S-LoRA, Sheng et al. 2023); for generation."""

from __future__ import annotations

from dataclasses import replace

import mindspore as ms
from mindspore import Parameter, Tensor, ops

from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.operators import matrix_product
from mindcoder.backend.row_operators import LookUp
from mindcoder.models.methods.base import NativeParameters, ReadTensor, WeightMethod


class MultiLoRA(WeightMethod):
    """The base method's product, plus the updates of all adapters, of which each token keeps its own.

    The adapters' matrices stand side by side: one product with all of them costs less than one for each while their
    ranks together are far below the layer's width. Scaling is in B.

    Args:
        base: keeps the layer's weight.
        a, b: of all adapters, ``[R, in]`` and ``[out, R]``; this rank's shards of them.
        mask: ``[Q, R]``, 1 where a token uses a column's adapter, 0 elsewhere; Q is the largest number of
            tokens in a step.
    """

    def __init__(self, base: WeightMethod, a: Parameter, b: Parameter, mask: Parameter) -> None:
        super().__init__(base.compute_dtype)
        self.base, self.a, self.b, self.mask = base, a, b, mask
        self.dtype = resolve_dtype(base.compute_dtype)
        self.matmul = matrix_product(transpose_b=True)
        self.look_up = LookUp()

    def layer_parameters(self) -> dict[str, Parameter]:
        """Those of the base; the adapters are in no checkpoint of the network."""
        return self.base.layer_parameters()

    def load(self, read: ReadTensor) -> None:
        """Set the base's weight."""
        self.base.load(read)

    def matrix(self) -> Tensor:
        """The base's weight."""
        return self.base.matrix()

    def operands(self, seed: Tensor) -> tuple:
        """The base's, then A, B and the mask."""
        return (*self.base.operands(seed), ops.cast(self.a, self.dtype), ops.cast(self.b, self.dtype), self.mask)

    def multiply(self, x: Tensor, operands: tuple) -> Tensor:
        """The sum of both products."""
        a, b, mask = operands[-3:]
        tokens = x.shape[0]
        if tokens < mask.shape[0]:
            # On Ascend a slice is a kernel of the old aclop path, and a view of a parameter a copy by one.
            mask = self.look_up(mask, ops.arange(0, tokens, 1, dtype=ms.int32))
        reduced = self.matmul(x, a) * ops.cast(mask, self.dtype)
        return self.base.multiply(x, operands[:-3]) + self.matmul(reduced, b)

    def native_parameters(self) -> NativeParameters | None:
        """The base's weight, and the matrices."""
        base = self.base.native_parameters()
        return None if base is None or base.a is not None else replace(base, a=self.a, b=self.b)
