"""Which part of every layer this process holds: all of it, unless a tensor-parallel subclass says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mindcoder.models.transformer_config import TOKEN_TABLES, TransformerConfig

if TYPE_CHECKING:  # `mindcoder plan` counts without MindSpore
    from mindspore import nn

OUTPUT_AXIS, INPUT_AXIS = 0, 1  # of a linear layer's weight [out, in]
# Linear layers that divide their output (Megatron-LM's column parallel) and their input (row parallel) features.
COLUMN_PARALLEL = ("attention.query", "attention.key", "attention.value", "mlp.up", "mlp.gate")
ROW_PARALLEL = ("attention.output", "mlp.down")
INPUT_MATRIX, OUTPUT_MATRIX = "mindpet_delta_lora_a", "mindpet_delta_lora_b"  # of a low-rank update
KEY_VALUE = ("attention.key", "attention.value")


def cut_axis(name: str, config: TransformerConfig, size: int, vocabulary: bool = False) -> int | None:
    """The axis along which ``size`` slices cut parameter ``name``; None where each of them has all of it.

    Args:
        vocabulary: whether the token tables are cut as well.
    """
    if size == 1:
        return None
    if not name.startswith("layers."):
        return OUTPUT_AXIS if vocabulary and name in TOKEN_TABLES else None
    module, part = name.split(".", 2)[2].rsplit(".", 1)
    if module in KEY_VALUE and config.num_kv_heads % size:
        return None  # multi-query: too few key heads to divide
    if module in COLUMN_PARALLEL:
        return None if part == INPUT_MATRIX else OUTPUT_AXIS
    return INPUT_AXIS if module in ROW_PARALLEL and part in ("weight", INPUT_MATRIX) else None


def part_of(axis_size: int, index: int, size: int) -> tuple[int, int]:
    """Begin and end of slice ``index`` of ``size`` of an axis; the last slices may be shorter, or empty."""
    piece = -(-axis_size // size)
    return min(index * piece, axis_size), min((index + 1) * piece, axis_size)


class WholeLayers:
    """One process holds whole layers.

    Attributes:
        index, size: this slice's number and how many there are.
        vocabulary: whether the token tables are cut too.
        sequence: whether the slices divide the rows of the residual stream and the norms among them.
        tensor_sum: cell that sums over the slices.
    """

    index, size = 0, 1
    vocabulary = sequence = False
    tensor_sum: Any = None

    def local(self, config: TransformerConfig) -> TransformerConfig:
        """The network as this process sees it: with its own heads and inner features."""
        return config

    def enter(self) -> nn.Cell | None:
        """Cell between whole activations and sliced layers; None where nothing is to be done."""
        return None

    def leave(self) -> nn.Cell | None:
        """Cell that makes whole activations of the slices' partial sums; None where nothing is to be done."""
        return None

    def spread_rows(self) -> nn.Cell | None:
        """Cell from all rows to those of this slice, after the embedding; None where every slice has all."""
        return None

    def before_head(self) -> nn.Cell | None:
        """Cell between the final norm and the head; None where nothing is to be done."""
        return None

    def join_logits(self) -> nn.Cell | None:
        """Cell that makes whole logits of the slices' vocabularies; None where every slice has all."""
        return None

    def sum_lookups(self) -> nn.Cell | None:
        """Cell that sums token embeddings that only one slice each has; None where every slice has all."""
        return None

    def axis(self, name: str, config: TransformerConfig) -> int | None:
        """The axis along which parameter ``name`` is cut; None where every process has all of it."""
        return cut_axis(name, config, self.size, self.vocabulary)

    def is_partial(self, name: str, config: TransformerConfig) -> bool:
        """Whether every slice has all of parameter ``name`` but only a part of its gradient, to be summed."""
        if self.size == 1 or self.axis(name, config) is not None or name in TOKEN_TABLES:
            return False
        if name.endswith((INPUT_MATRIX, OUTPUT_MATRIX)):
            return True  # the end of an update that all slices share sees a slice of the other end
        if any(f".{part}." in name for part in KEY_VALUE):
            return True  # shared key heads: each slice has the gradient of its own query heads
        return self.sequence and not name.startswith("position_embedding.")  # norms and biases on own rows

    def part(self, axis_size: int) -> tuple[int, int]:
        """Begin and end of this process's part of an axis, see `part_of`."""
        return part_of(axis_size, self.index, self.size)

    def cut(self, values: np.ndarray, axis: int | None) -> np.ndarray:
        """This process's part of a whole tensor, filled with zeros where the axis does not divide."""
        if axis is None:
            return values
        begin, end = self.part(values.shape[axis])
        return self.fill(values[begin:end] if axis == 0 else values[:, begin:end], axis, values.shape[axis])

    def fill(self, part: np.ndarray, axis: int, axis_size: int) -> np.ndarray:
        """A part of a whole axis of ``axis_size``, filled with zeros where that does not divide."""
        missing = -(-axis_size // self.size) - part.shape[axis]
        if not missing:
            return part
        return np.pad(part, [(0, missing if place == axis else 0) for place in range(part.ndim)])


WHOLE = WholeLayers()
