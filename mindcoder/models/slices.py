"""Which part of every layer this process holds: all of it, unless a tensor-parallel subclass says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mindcoder.models.transformer_config import TransformerConfig

if TYPE_CHECKING:  # `mindcoder plan` counts without MindSpore
    from mindspore import nn

OUTPUT_AXIS, INPUT_AXIS = 0, 1  # of a linear layer's weight [out, in]
# Linear layers that divide their output (Megatron-LM's column parallel) and their input (row parallel) features.
COLUMN_PARALLEL = ("attention.query", "attention.key", "attention.value", "mlp.up", "mlp.gate")
ROW_PARALLEL = ("attention.output", "mlp.down")
KEY_VALUE = ("attention.key", "attention.value")


def cut_axis(name: str, config: TransformerConfig, size: int) -> int | None:
    """The axis along which ``size`` slices cut parameter ``name``; None where each of them has all of it."""
    if size == 1 or not name.startswith("layers."):
        return None
    module, part = name.split(".", 2)[2].rsplit(".", 1)
    if module in KEY_VALUE and config.num_kv_heads % size:
        return None  # multi-query: too few key heads to divide
    if module in COLUMN_PARALLEL:
        return OUTPUT_AXIS
    return INPUT_AXIS if module in ROW_PARALLEL and part == "weight" else None


class WholeLayers:
    """One process holds whole layers.

    Attributes:
        index, size: this slice's number and how many there are.
    """

    index, size = 0, 1
    tensor_sum: Any = None  # cell that sums over the slices

    def local(self, config: TransformerConfig) -> TransformerConfig:
        """The network as this process sees it: with its own heads and inner features."""
        return config

    def enter(self) -> nn.Cell | None:
        """Cell between whole activations and sliced layers; None where nothing is to be done."""
        return None

    def leave(self) -> nn.Cell | None:
        """Cell that makes whole activations of the slices' partial sums; None where nothing is to be done."""
        return None

    def axis(self, name: str, config: TransformerConfig) -> int | None:
        """The axis along which parameter ``name`` is cut; None where every process has all of it."""
        return cut_axis(name, config, self.size)

    def cut(self, values: np.ndarray, axis: int | None) -> np.ndarray:
        """This process's part of a whole tensor."""
        return values if axis is None else np.split(values, self.size, axis)[self.index]


WHOLE = WholeLayers()
