"""Which shard of every layer this rank holds: all of it, unless `mindcoder.parallel.tensor_parallel` says otherwise."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from mindcoder.families.parameter_names import (
    ABSMAX,
    INPUT,
    LORA_A,
    LORA_B,
    NESTED_ABSMAX,
    NESTED_OFFSET,
    OFFSET,
    SCALE,
    ParameterName,
)
from mindcoder.families.transformer_config import HEAD_NORMS, TOKEN_TABLES, TransformerConfig

if TYPE_CHECKING:  # `mindcoder plan` runs without MindSpore
    from mindspore import nn

OUTPUT_AXIS, INPUT_AXIS = 0, 1  # axes of a linear layer's weight [out, in]


class Shard(Enum):
    """How a linear layer is divided over ranks (Megatron-LM); the value is the axis of its weight.

    ``COLUMN`` parallel layers have a part of the output features on each rank, ``ROW`` parallel layers a part of the
    input features: their results are partial sums.
    """

    REPLICATED = None
    COLUMN = OUTPUT_AXIS
    ROW = INPUT_AXIS


# What the layers say where they are constructed (a test compares), for code that has names but no network: plans and
# checkpoints.
LINEAR_SHARDS = {
    "attention.query": Shard.COLUMN,
    "attention.key": Shard.COLUMN,
    "attention.value": Shard.COLUMN,
    "attention.output": Shard.ROW,
    "mlp.up": Shard.COLUMN,
    "mlp.gate": Shard.COLUMN,
    "mlp.down": Shard.ROW,
}
KEY_VALUE = ("attention.key", "attention.value")
# Parts of a layer whose last axis is that of its inputs, or of groups of them.
PARTS_BY_INPUT = ("weight", LORA_A, SCALE, OFFSET, ABSMAX)
UNDIVIDED_PARTS = (NESTED_ABSMAX, NESTED_OFFSET)  # their blocks are of the whole weight


def key_value_shard(config: TransformerConfig, size: int) -> Shard:
    """How key and value projections are divided: with fewer heads than ranks (multi-query attention) not at all."""
    return Shard.REPLICATED if config.num_kv_heads % size else Shard.COLUMN


def linear_shard(module: str, config: TransformerConfig, size: int) -> Shard:
    """How a layer's module is sharded over ``size`` ranks; modules other than linear layers are replicated."""
    return key_value_shard(config, size) if module in KEY_VALUE else LINEAR_SHARDS.get(module, Shard.REPLICATED)


def shard_axis(name: str, config: TransformerConfig, size: int, vocabulary: bool = False) -> int | None:
    """The axis along which parameter ``name`` is sharded over ``size`` ranks; None if it is replicated.

    Args:
        vocabulary: whether the embedding tables are sharded too.
    """
    if size == 1:
        return None
    parameter = ParameterName.parse(name)
    if parameter.layer is None:
        return OUTPUT_AXIS if vocabulary and name in TOKEN_TABLES else None
    shard = linear_shard(parameter.module, config, size)
    if parameter.part in UNDIVIDED_PARTS:
        return None
    if shard is Shard.COLUMN:
        return None if parameter.part in (LORA_A, INPUT) else OUTPUT_AXIS  # A [rank, in] has no output features
    return INPUT_AXIS if shard is Shard.ROW and parameter.part in PARTS_BY_INPUT else None


def shard_range(axis_size: int, index: int, size: int) -> tuple[int, int]:
    """Begin and end of shard ``index`` of ``size`` along an axis; the last shards may be shorter, or empty."""
    piece = -(-axis_size // size)
    return min(index * piece, axis_size), min((index + 1) * piece, axis_size)


class NoTensorParallel:
    """No tensor parallelism: one rank holds whole layers.

    Attributes:
        index, size: this rank's index in its tensor-parallel group, and the size of the group.
        vocabulary: whether the embedding tables are sharded too.
        sequence: whether the residual stream and the norms are divided by tokens (sequence parallelism).
        tensor_sum: cell that all-reduces over the group.
    """

    index, size = 0, 1
    vocabulary = sequence = False
    tensor_sum: Any = None

    def local(self, config: TransformerConfig) -> TransformerConfig:
        """The configuration as this rank sees it: with its own heads and intermediate features."""
        return config

    def copy_to_region(self) -> nn.Cell | None:
        """Cell before a column-parallel layer (Megatron-LM's copy to the tensor-parallel region); None if there is
        nothing to do.
        """
        return None

    def reduce_from_region(self) -> nn.Cell | None:
        """Cell after a row-parallel layer that reduces the partial sums; None if there is nothing to do."""
        return None

    def scatter_sequence(self) -> nn.Cell | None:
        """Cell that scatters the sequence after the embedding (sequence parallelism); None if every rank has all
        tokens.
        """
        return None

    def gather_sequence(self) -> nn.Cell | None:
        """Cell between the final norm and the head; None if there is nothing to do."""
        return None

    def gather_logits(self) -> nn.Cell | None:
        """Cell that gathers logits over a parallel vocabulary; None if every rank has all of them."""
        return None

    def reduce_embeddings(self) -> nn.Cell | None:
        """Cell that sums token embeddings of which each rank has a part; None if every rank has all of them."""
        return None

    def axis(self, name: str, config: TransformerConfig) -> int | None:
        """The axis along which parameter ``name`` is sharded; None if it is replicated."""
        return shard_axis(name, config, self.size, self.vocabulary)

    def has_partial_gradient(self, name: str, config: TransformerConfig) -> bool:
        """Whether parameter ``name`` is replicated but each rank has only a part of its gradient, to be all-reduced."""
        if self.size == 1 or self.axis(name, config) is not None or name in TOKEN_TABLES:
            return False
        parameter = ParameterName.parse(name)
        if parameter.part in (LORA_A, LORA_B):
            return True  # one end of a shared update sees the shard of the other end
        if parameter.module in KEY_VALUE:
            return True  # shared key heads: each rank has the gradient of its own query heads
        if parameter.module in HEAD_NORMS:
            return True  # each rank norms its own heads
        # norms and biases see this rank's tokens only
        return self.sequence and parameter.module != "position_embedding"

    def shard_range_of(self, axis_size: int) -> tuple[int, int]:
        """Begin and end of this rank's shard of an axis, see `shard_range`."""
        return shard_range(axis_size, self.index, self.size)

    def shard(self, values: np.ndarray, axis: int | None) -> np.ndarray:
        """This rank's shard of a whole tensor, zero-padded where the axis does not divide evenly."""
        if axis is None:
            return values
        begin, end = self.shard_range_of(values.shape[axis])
        return self.pad_shard(values[begin:end] if axis == 0 else values[:, begin:end], axis, values.shape[axis])

    def pad_shard(self, shard: np.ndarray, axis: int, axis_size: int) -> np.ndarray:
        """A shard along an axis of global size ``axis_size``, zero-padded where that does not divide evenly."""
        missing = -(-axis_size // self.size) - shard.shape[axis]
        if not missing:
            return shard
        return np.pad(shard, [(0, missing if dim == axis else 0) for dim in range(shard.ndim)])


NO_TP = NoTensorParallel()
