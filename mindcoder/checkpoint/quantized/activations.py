"""How activations become integers, as a file says it and as the network keeps it: float32 ``[2]``, scale and offset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mindcoder.checkpoint.quantized.format import DYNAMIC, STATIC
from mindcoder.checkpoint.quantized.tensors import QuantizedTensor
from mindcoder.checkpoint.stored_tensor import FLOAT_DTYPES, StoredTensor, convert_dtype
from mindcoder.errors import UserError


def with_dynamic_input(tensor: QuantizedTensor) -> QuantizedTensor:
    """The same weight, for activations of which each token has its own scale."""
    rounding = StoredTensor("input", tensor.weight.file, "F32", (2,), loaded=np.zeros(2, np.float32))
    return replace(tensor, input=rounding, activations=DYNAMIC)


@dataclass(frozen=True)
class StaticRounding(StoredTensor):
    """Scale and offset of all activations, read from two tensors of one number each.

    Attributes:
        scale: of any float dtype.
        offset: of a float dtype or int8; None is zero.
        check: called when both are read, to refuse what does not fit them.
    """

    scale: StoredTensor | None = None
    offset: StoredTensor | None = None
    check: Callable[[float, float], None] | None = None

    @property
    def files(self) -> frozenset[Path]:
        """The files of both."""
        assert self.scale is not None
        return self.scale.files | (frozenset() if self.offset is None else self.offset.files)

    @property
    def is_plain(self) -> bool:
        """Always False: these values exist only in memory."""
        return False

    def read(self) -> np.ndarray:
        """Both numbers.

        Raises:
            UserError: the scale is not above zero, or the offset is not a whole number.
        """
        assert self.scale is not None
        scale, offset = _number(self.scale), 0.0 if self.offset is None else _number(self.offset)
        if not np.isfinite(scale) or scale <= 0:
            raise UserError(f"{self.scale.name}: found {scale}, expected a number above 0", self.file)
        if self.offset is not None and (not np.isfinite(offset) or offset != round(offset)):
            raise UserError(f"{self.offset.name}: found {offset}, expected a whole number", self.file)
        if self.check is not None:
            self.check(scale, offset)
        return np.array([scale, offset], np.float32)


def with_static_input(
    tensor: QuantizedTensor,
    scale: StoredTensor,
    offset: StoredTensor | None,
    check: Callable[[float, float], None] | None = None,
) -> QuantizedTensor:
    """The same weight, for activations that all have one scale and offset.

    Raises:
        UserError: there is not one of each.
    """
    for part in (scale, offset):
        if part is not None and (part.dtype not in (*FLOAT_DTYPES, "I8") or np.prod(part.shape, dtype=int) != 1):
            raise UserError(f"{part.name} is {part.dtype} {list(part.shape)}, expected one number", part.file)
    rounding = StaticRounding("input", scale.file, "F32", (2,), scale=scale, offset=offset, check=check)
    return replace(tensor, input=rounding, activations=STATIC)


def _number(tensor: StoredTensor) -> float:
    return float(convert_dtype(tensor.read(), tensor.dtype, "F32").reshape(-1)[0])
