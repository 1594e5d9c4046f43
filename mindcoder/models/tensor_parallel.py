"""Which shard of every layer this rank holds: all of it, unless `mindcoder.parallel.tensor_parallel` says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mindcoder.families.parameter_names import ParameterName
from mindcoder.families.transformer_config import TOKEN_TABLES, TransformerConfig

if TYPE_CHECKING:  # `mindcoder plan` runs without MindSpore
    from mindspore import nn

OUTPUT_AXIS, INPUT_AXIS = 0, 1  # axes of a linear layer's weight [out, in]
# Linear layers sharded by output features (Megatron-LM's column parallel) and by input features (row parallel).
COLUMN_PARALLEL = ("attention.query", "attention.key", "attention.value", "mlp.up", "mlp.gate")
ROW_PARALLEL = ("attention.output", "mlp.down")
INPUT_MATRIX, OUTPUT_MATRIX = "mindpet_delta_lora_a", "mindpet_delta_lora_b"  # the two matrices of a low-rank update
KEY_VALUE = ("attention.key", "attention.value")


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
    module, part = parameter.module, parameter.part
    if module in KEY_VALUE and config.num_kv_heads % size:
        return None  # multi-query attention: too few key heads to divide
    if module in COLUMN_PARALLEL:
        return None if part == INPUT_MATRIX else OUTPUT_AXIS
    return INPUT_AXIS if module in ROW_PARALLEL and part in ("weight", INPUT_MATRIX) else None


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
        if name.endswith((INPUT_MATRIX, OUTPUT_MATRIX)):
            return True  # one end of a shared update sees the shard of the other end
        if any(f".{part}." in name for part in KEY_VALUE):
            return True  # shared key heads: each rank has the gradient of its own query heads
        # norms and biases see this rank's tokens only
        return self.sequence and not name.startswith("position_embedding.")

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
