"""A linear layer on its way into a file of integers: read, quantized and written a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from mindcoder.checkpoint.plan import TensorPlan, write_all
from mindcoder.checkpoint.quantized.format import Integers, LayerShape, QuantizedFormat, SmallTensor, TensorForm
from mindcoder.checkpoint.quantized.tensors import row_blocks
from mindcoder.checkpoint.stored_tensor import Progress, byte_count, convert_dtype, no_progress
from mindcoder.errors import UserError
from mindcoder.quantization.algorithms.registry import Algorithm
from mindcoder.quantization.report import LayerReport
from mindcoder.quantization.rounding import as_stored, from_integers, to_integers


@dataclass
class Measured:
    """What quantization did to a layer's weight.

    Attributes:
        squares: sum of the squares of the weight.
        errors: sum of the squares of its changes.
        low, high: its range.
    """

    squares: float = 0.0
    errors: float = 0.0
    low: float = 0.0
    high: float = 0.0

    @property
    def relative_error(self) -> float:
        """Norm of the change divided by the weight's."""
        return (self.errors / self.squares) ** 0.5 if self.squares else 0.0

    def add(self, weight: np.ndarray, quantized: np.ndarray) -> None:
        """Count rows of a weight."""
        difference = quantized - weight
        self.errors += float(np.vdot(difference, difference))
        self.squares += float(np.vdot(weight, weight))
        self.low, self.high = min(self.low, float(weight.min())), max(self.high, float(weight.max()))

    def report(self, module: str, integers: Integers, output_error: float | None = None) -> LayerReport:
        """What is said about a layer."""
        return LayerReport(
            module,
            integers.bits,
            integers.group_size,
            self.relative_error,
            self.low,
            self.high,
            output_error=output_error,
        )


class QuantizedLayer:
    """A layer's tensors as they are written: first the integers, then what was found on the way.

    Args:
        plan: the weight in floating point.
        shape: the layer.
        integers: what it becomes.
        algorithm: chooses scales and offsets.
        form: the format of the file.

    Attributes:
        measured: complete when the integers are written.
    """

    def __init__(
        self, plan: TensorPlan, shape: LayerShape, integers: Integers, algorithm: Algorithm, form: QuantizedFormat
    ) -> None:
        self.plan, self.shape, self.integers = plan, shape, integers
        self._algorithm, self.form = algorithm, form
        groups = (shape.outputs, integers.groups(shape.inputs))
        self.scale, self.offset = np.zeros(groups, np.float32), np.zeros(groups, np.float32)
        self.measured = Measured()

    def tensors(self) -> list[WrittenIntegers | WrittenBeside]:
        """In the order in which they must be written."""
        beside = [WrittenBeside(self, item) for item in self.form.beside(self.shape, self.integers)]
        return [WrittenIntegers(self, self.form.weight(self.shape, self.integers)), *beside]

    def encoded(self) -> Iterator[np.ndarray]:
        """Quantize; rows of integers as the file has them."""
        rounded = self.form.scale_dtype(self.shape)
        for begin, weight in float_rows(self.plan):
            self.check_finite(begin, weight)
            groups = weight.reshape(len(weight), self.scale.shape[1], -1)
            scale, offset = self._algorithm(groups, self.integers)
            scale = as_stored(scale, rounded)
            numbers = to_integers(groups, scale, offset, self.integers)
            self.measured.add(groups, from_integers(numbers, scale, offset))
            self.scale[begin : begin + len(weight)] = scale
            self.offset[begin : begin + len(weight)] = offset
            yield self.form.encode(numbers.reshape(len(weight), -1), self.integers)

    def check_finite(self, begin: int, weight: np.ndarray) -> None:
        """Refuse rows from ``begin`` that are not finite (`UserError`)."""
        finite = np.isfinite(weight)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            found = f"{weight[row, column]} at output {begin + row}, input {column}"
            raise UserError(f"{self.shape.module}: found {found}, expected finite weights")


def float_rows(plan: TensorPlan) -> Iterator[tuple[int, np.ndarray]]:
    """First row and values, float32, of blocks of a weight; it is read whole only if it has to be rearranged."""
    whole = plan.read() if plan.build is not None else None
    for begin, end in row_blocks(plan.shape):
        rows = plan.read_part(0, begin, end) if whole is None else whole[begin:end]
        yield begin, convert_dtype(rows, plan.dtype, "F32")


class _Written:
    """A tensor of a layer that `mindcoder.checkpoint.safetensors_file` writes."""

    def __init__(self, layer: QuantizedLayer, form: TensorForm) -> None:
        self.layer = layer
        self.name, self.dtype, self.shape = form.name, form.dtype, form.shape

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return byte_count(self.shape, self.dtype)


class WrittenIntegers(_Written):
    """The integers."""

    def write(self, out: BinaryIO, progress: Progress = no_progress) -> None:
        """Quantize the layer and append its integers to ``out``."""
        for rows in self.layer.encoded():
            write_all(out, rows, progress)


class WrittenBeside(_Written):
    """What belongs to the integers, such as their scales."""

    def __init__(self, layer: QuantizedLayer, tensor: SmallTensor) -> None:
        super().__init__(layer, tensor.form)
        self._make = tensor.make

    def write(self, out: BinaryIO, progress: Progress = no_progress) -> None:
        """Append it to ``out``; after the integers."""
        write_all(out, self._make(self.layer.scale, self.layer.offset), progress)
