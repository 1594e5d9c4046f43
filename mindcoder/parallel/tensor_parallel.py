"""Tensor parallelism (Shoeybi et al. 2019, Megatron-LM): heads and MLP features sharded over neighbouring ranks.

The backward pass of a bare AllReduce would sum once more, so both ends of a tensor-parallel region are cells with their
own. With sequence parallelism (Korthikanti et al. 2022) what lies between two regions is sharded by tokens: the
all-reduce becomes a reduce-scatter, and the tokens are gathered again before the next region.
"""

from __future__ import annotations

from dataclasses import replace

from mindspore import Tensor, nn, ops

from mindcoder.backend.row_operators import Cut
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.models.tensor_parallel import NoTensorParallel
from mindcoder.parallel.process_groups import AllGather, AllReduce, ProcessGroups, ReduceScatter
from mindcoder.parallel_layout import check_divides


class CopyToRegion(nn.Cell):
    """Megatron-LM's f: identity forward, all-reduce of the gradient backward."""

    def __init__(self, tensor_sum: AllReduce) -> None:
        super().__init__(auto_prefix=False)
        self.tensor_sum = tensor_sum

    def construct(self, x: Tensor) -> Tensor:
        return x

    def bprop(self, x, out, dout):
        return (self.tensor_sum(dout),)


class ReduceFromRegion(nn.Cell):
    """Megatron-LM's g: all-reduce of the partial results forward, identity backward."""

    def __init__(self, tensor_sum: AllReduce) -> None:
        super().__init__(auto_prefix=False)
        self.tensor_sum = tensor_sum

    def construct(self, x: Tensor) -> Tensor:
        return self.tensor_sum(x)

    def bprop(self, x, out, dout):
        return (dout,)


class GatherFromSequence(nn.Cell):
    """f with sequence parallelism: all-gather of the tokens forward, reduce-scatter of the gradient backward."""

    def __init__(self, gather: AllGather, scatter_sum: ReduceScatter) -> None:
        super().__init__(auto_prefix=False)
        self.gather, self.scatter_sum = gather, scatter_sum

    def construct(self, x: Tensor) -> Tensor:
        return self.gather(x)

    def bprop(self, x, out, dout):
        return (self.scatter_sum(dout),)


class ReduceScatterToSequence(nn.Cell):
    """g with sequence parallelism: reduce-scatter of partial results forward, all-gather of the gradient backward."""

    def __init__(self, gather: AllGather, scatter_sum: ReduceScatter) -> None:
        super().__init__(auto_prefix=False)
        self.gather, self.scatter_sum = gather, scatter_sum

    def construct(self, x: Tensor) -> Tensor:
        return self.scatter_sum(x)

    def bprop(self, x, out, dout):
        return (self.gather(dout),)


class ScatterSequence(nn.Cell):
    """This rank's tokens of a replicated tensor; all-gather of the gradient backward."""

    def __init__(self, gather: AllGather, index: int, size: int) -> None:
        super().__init__(auto_prefix=False)
        self.gather, self.index, self.size = gather, index, size
        self.cut = Cut()

    def construct(self, x: Tensor) -> Tensor:
        return self.shard(x)

    def shard(self, x: Tensor) -> Tensor:
        piece = x.shape[0] // self.size
        return self.cut(x, self.index * piece, (self.index + 1) * piece)

    def bprop(self, x, out, dout):
        return (self.gather(dout),)


class GatherSequence(ScatterSequence):
    """The inverse of `ScatterSequence`, where every rank then computes the same with all tokens."""

    def construct(self, x: Tensor) -> Tensor:
        return self.gather(x)

    def bprop(self, x, out, dout):
        return (self.shard(dout),)


class GatherLogits(nn.Cell):
    """``[Q, V / ranks]`` of every rank to ``[Q, V]``; for generation, without a gradient."""

    def __init__(self, gather: AllGather, size: int) -> None:
        super().__init__(auto_prefix=False)
        self.gather, self.size = gather, size

    def construct(self, logits: Tensor) -> Tensor:
        tokens, own = logits.shape
        joined = self.gather(logits).reshape((self.size, tokens, own))
        return ops.transpose(joined, (1, 0, 2)).reshape((tokens, self.size * own))


class TensorParallel(NoTensorParallel):
    """This rank's shard of every layer.

    Args:
        comm: the mesh and its groups; its layout says whether sequence and vocabulary are sharded too.
        config: the whole network.
        trains: sequence parallelism is for training and evaluation; a single new token cannot be divided.

    Raises:
        ValueError: heads, key/value heads or intermediate features are not divisible.
    """

    def __init__(self, comm: ProcessGroups, config: TransformerConfig, trains: bool = True) -> None:
        mesh = comm.mesh
        self.index, self.size = mesh.tensor_index, mesh.tensor
        self.sequence, self.vocabulary = mesh.layout.sequence and trains, mesh.layout.vocabulary
        self.tensor_sum = comm.all_reduce_among(mesh.tensor_ranks())
        self.gather = comm.all_gather_among(mesh.tensor_ranks())
        self.scatter_sum = comm.reduce_scatter_among(mesh.tensor_ranks())
        check_divides(config.num_heads, config.num_kv_heads, config.intermediate_size, self.size)

    def local(self, config: TransformerConfig) -> TransformerConfig:
        """With this rank's heads and intermediate features; a single key/value head is replicated."""
        return replace(
            config,
            num_heads=config.num_heads // self.size,
            num_kv_heads=max(config.num_kv_heads // self.size, 1),
            intermediate_size=config.intermediate_size // self.size,
        )

    def copy_to_region(self) -> nn.Cell:
        """f: `CopyToRegion`, or with sequence parallelism `GatherFromSequence`."""
        return GatherFromSequence(self.gather, self.scatter_sum) if self.sequence else CopyToRegion(self.tensor_sum)

    def reduce_from_region(self) -> nn.Cell:
        """g: `ReduceFromRegion`, or with sequence parallelism `ReduceScatterToSequence`."""
        return (
            ReduceScatterToSequence(self.gather, self.scatter_sum)
            if self.sequence
            else ReduceFromRegion(self.tensor_sum)
        )

    def scatter_sequence(self) -> nn.Cell | None:
        """See `ScatterSequence`."""
        return ScatterSequence(self.gather, self.index, self.size) if self.sequence else None

    def gather_sequence(self) -> nn.Cell | None:
        """f with a parallel vocabulary; the gathered sequence where every rank has the whole head."""
        if self.vocabulary:
            return self.copy_to_region()
        return GatherSequence(self.gather, self.index, self.size) if self.sequence else None

    def gather_logits(self) -> nn.Cell | None:
        """See `GatherLogits`."""
        return GatherLogits(self.gather, self.size) if self.vocabulary else None

    def reduce_embeddings(self) -> nn.Cell | None:
        """g on the token embeddings of all ranks."""
        return ReduceFromRegion(self.tensor_sum) if self.vocabulary else None
