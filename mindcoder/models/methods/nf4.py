"""A frozen weight in NF4, with scales that are quantized too (QLoRA, Dettmers et al. 2023): 4.13 bits a number."""

from __future__ import annotations

import numpy as np
from mindspore import Parameter, Tensor, ops

from mindcoder.backend.nf4 import CODES, NestedScales
from mindcoder.backend.nf4_operators import Nf4Product
from mindcoder.errors import UserError
from mindcoder.families.parameter_names import ABSMAX, NESTED_ABSMAX, NESTED_OFFSET
from mindcoder.models.methods.base import NativeParameters, ReadTensor, WeightMethod

PARTS = ("weight", ABSMAX, NESTED_ABSMAX, NESTED_OFFSET)


class Nf4(WeightMethod):
    """``x @ W.T`` with W of codes (`mindcoder.backend.nf4`), bytes as bitsandbytes stores them.

    All parameters are frozen; the input has a gradient, so that adapters are trained on top. In tensor-parallel layers
    the weight is this rank's shard.

    Args:
        weight: uint8 ``[out, in / 2]``, two codes a byte, that of the even input in the high half.
        absmax: of each block of neighbouring inputs: uint8 ``[out, blocks]``; or its scale itself, in float32.
        nested_absmax: of 256 blocks, in row-major order, float32; None with scales in float32.
        nested_offset: float32 ``[1]``; None likewise.
        compute_dtype: of the product, a name.
    """

    def __init__(
        self,
        weight: Tensor,
        absmax: Tensor,
        nested_absmax: Tensor | None,
        nested_offset: Tensor | None,
        compute_dtype: str,
    ) -> None:
        super().__init__(compute_dtype)
        self.weight = Parameter(weight, name="weight", requires_grad=False)
        self.absmax = Parameter(absmax, name=ABSMAX, requires_grad=False)
        nested = ((nested_absmax, NESTED_ABSMAX), (nested_offset, NESTED_OFFSET))
        self.nested_absmax, self.nested_offset = (
            None if item is None else Parameter(item, name=name, requires_grad=False) for item, name in nested
        )
        self.nothing = Tensor(np.zeros(1, np.float32))
        shape = (weight.shape[0], 2 * weight.shape[1], absmax.shape[1])
        self.product = Nf4Product(shape, compute_dtype, nested_absmax is not None)
        self.kept: list[NativeParameters] = []

    @classmethod
    def of(cls, read: ReadTensor, compute_dtype: str) -> Nf4:
        """The method that keeps the codes of a checkpoint."""
        weight, absmax, nested, offset = (item if item is None else Tensor(item) for item in _parts(read))
        return cls(weight, absmax, nested, offset, compute_dtype)

    def layer_parameters(self) -> dict[str, Parameter]:
        """The codes and their scales."""
        parameters = (self.weight, self.absmax, self.nested_absmax, self.nested_offset)
        return {part: item for part, item in zip(PARTS, parameters) if item is not None}

    def load(self, read: ReadTensor) -> None:
        """Set the codes and their scales.

        Raises:
            UserError: the checkpoint has none, or has them in another form.
        """
        parameters = self.layer_parameters()
        for part, values in zip(PARTS, _parts(read)):
            target = parameters.get(part)
            form = None if values is None else (values.shape, str(values.dtype))
            if form != (None if target is None else (target.shape, str(target.dtype).lower())):
                raise UserError(f"a linear layer is kept in NF4 of another form than the checkpoint's: {form}")
            if target is not None:
                target.set_data(Tensor(values))
        self.kept.clear()

    def matrix(self) -> Tensor:
        """The numbers that the codes stand for, in the compute dtype."""
        return self.product.floats(*self.operands(self.nothing))

    def operands(self, seed: Tensor) -> tuple:
        """The parameters."""
        if self.nested_absmax is None:
            return (self.weight, self.absmax, self.nothing, self.nothing)
        return (self.weight, self.absmax, self.nested_absmax, self.nested_offset)

    def multiply(self, x: Tensor, operands: tuple) -> Tensor:
        """``x @ W.T``."""
        return self.product(x, *operands)

    def gradients(self, x: Tensor, operands: tuple, dout: Tensor) -> tuple[Tensor, tuple]:
        """Of the input; zeros for the frozen parameters."""
        weight, absmax, nested_absmax, nested_offset = operands
        frozen = (ops.zeros_like(weight), ops.zeros_like(absmax), ops.zeros_like(nested_absmax))
        return self.product.gradient(dout, *operands), (*frozen, ops.zeros_like(nested_offset))

    def native_parameters(self) -> NativeParameters | None:
        """The codes, and their scales in float32, which are expanded once: 0.5 bits a number more."""
        if not self.kept:
            scale = self.absmax
            if self.nested_absmax is not None:
                nested = NestedScales(
                    self.absmax.asnumpy(), self.nested_absmax.asnumpy(), self.nested_offset.asnumpy()[0]
                )
                scale = _beside(self.weight, "scale", nested.expanded())
            self.kept.append(NativeParameters(self.weight, scale, _beside(self.weight, "codes", CODES.reshape(1, -1))))
        return self.kept[0]


def single_level(read: ReadTensor, blocks: np.ndarray) -> ReadTensor:
    """``read`` with scales in float32 instead of bytes: a shard of a weight has no whole blocks of scales.

    Args:
        blocks: number of each of its scales in the whole weight, ``[out, blocks]``.
    """

    def reading(part: str) -> np.ndarray | None:
        if part in (NESTED_ABSMAX, NESTED_OFFSET):
            return None
        values, nested, offset = read(part), read(NESTED_ABSMAX), read(NESTED_OFFSET)
        if part != ABSMAX or values is None or nested is None or offset is None:
            return values
        return NestedScales(values, nested, offset[0]).expanded(blocks)

    return reading


def _beside(weight: Parameter, what: str, values: np.ndarray) -> Parameter:
    """What the C++ step takes beside a weight and no checkpoint has."""
    return Parameter(Tensor(values), name=f"{weight.name}.{what}", requires_grad=False)


def _parts(read: ReadTensor) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Weight, scales, and theirs, of a layer in a checkpoint.

    Raises:
        UserError: it is not in NF4 there.
    """
    weight, absmax, nested, offset = (read(part) for part in PARTS)
    if weight is None or absmax is None:
        raise UserError("a linear layer is kept in NF4, which the checkpoint does not have")
    return (
        np.ascontiguousarray(weight),
        np.ascontiguousarray(absmax),
        None if nested is None else np.ascontiguousarray(nested, np.float32),
        None if offset is None else np.ascontiguousarray(offset, np.float32),
    )
