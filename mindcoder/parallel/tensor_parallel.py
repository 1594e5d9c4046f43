"""Tensor parallelism (Shoeybi et al. 2019, Megatron-LM): heads and inner features divided over neighbouring ranks.

The backward pass of a bare AllReduce would sum once more, so both ends of a sliced block are cells with their own. With
sequence parallelism (Korthikanti et al. 2022) what lies between two sliced blocks is divided by rows: the sum becomes
one of which each rank keeps its rows, and the rows are gathered again before the next block.
"""

from __future__ import annotations

from dataclasses import replace

from mindspore import Tensor, nn, ops

from mindcoder.backend.row_operators import Cut
from mindcoder.config.layout import check_divides
from mindcoder.models.slices import WholeLayers
from mindcoder.models.transformer_config import TransformerConfig
from mindcoder.parallel.collectives import GatherOver, ProcessGroups, ScatterSumOver, SumOver


class EnterSlices(nn.Cell):
    """Megatron-LM's f: nothing forward, sum of the slices' gradients backward."""

    def __init__(self, tensor_sum: SumOver) -> None:
        super().__init__(auto_prefix=False)
        self.tensor_sum = tensor_sum

    def construct(self, x: Tensor) -> Tensor:
        return x

    def bprop(self, x, out, dout):
        return (self.tensor_sum(dout),)


class LeaveSlices(nn.Cell):
    """Megatron-LM's g: sum of the slices' partial results forward, nothing backward."""

    def __init__(self, tensor_sum: SumOver) -> None:
        super().__init__(auto_prefix=False)
        self.tensor_sum = tensor_sum

    def construct(self, x: Tensor) -> Tensor:
        return self.tensor_sum(x)

    def bprop(self, x, out, dout):
        return (dout,)


class EnterSlicesFromRows(nn.Cell):
    """f with sequence parallelism: all slices' rows forward, own rows of the summed gradient backward."""

    def __init__(self, gather: GatherOver, scatter_sum: ScatterSumOver) -> None:
        super().__init__(auto_prefix=False)
        self.gather, self.scatter_sum = gather, scatter_sum

    def construct(self, x: Tensor) -> Tensor:
        return self.gather(x)

    def bprop(self, x, out, dout):
        return (self.scatter_sum(dout),)


class LeaveSlicesToRows(nn.Cell):
    """g with sequence parallelism: own rows of the sum forward, all slices' gradient rows backward."""

    def __init__(self, gather: GatherOver, scatter_sum: ScatterSumOver) -> None:
        super().__init__(auto_prefix=False)
        self.gather, self.scatter_sum = gather, scatter_sum

    def construct(self, x: Tensor) -> Tensor:
        return self.scatter_sum(x)

    def bprop(self, x, out, dout):
        return (self.gather(dout),)


class SpreadRows(nn.Cell):
    """Own rows of what all slices have; backward the rows of all."""

    def __init__(self, gather: GatherOver, index: int, size: int) -> None:
        super().__init__(auto_prefix=False)
        self.gather, self.index, self.size = gather, index, size
        self.cut = Cut()

    def construct(self, x: Tensor) -> Tensor:
        return self.own(x)

    def own(self, x: Tensor) -> Tensor:
        piece = x.shape[0] // self.size
        return self.cut(x, self.index * piece, (self.index + 1) * piece)

    def bprop(self, x, out, dout):
        return (self.gather(dout),)


class GatherRows(SpreadRows):
    """The inverse of `SpreadRows`, where every slice then does the same with all rows."""

    def construct(self, x: Tensor) -> Tensor:
        return self.gather(x)

    def bprop(self, x, out, dout):
        return (self.own(dout),)


class JoinLogits(nn.Cell):
    """``[rows, V / slices]`` of every slice to ``[rows, V]``; for generation, without a gradient."""

    def __init__(self, gather: GatherOver, size: int) -> None:
        super().__init__(auto_prefix=False)
        self.gather, self.size = gather, size

    def construct(self, logits: Tensor) -> Tensor:
        rows, own = logits.shape
        joined = self.gather(logits).reshape((self.size, rows, own))
        return ops.transpose(joined, (1, 0, 2)).reshape((rows, self.size * own))


class SlicedLayers(WholeLayers):
    """This rank's slice of every layer.

    Args:
        comm: the mesh and its groups.
        config: the whole network.
        sequence: divide the rows of the residual stream and the norms too (``use_seq_parallel``).
        vocabulary: divide the token tables too (``vocab_emb_dp: False``).

    Raises:
        ValueError: heads, key heads or inner features do not divide.
    """

    def __init__(
        self, comm: ProcessGroups, config: TransformerConfig, sequence: bool = False, vocabulary: bool = False
    ) -> None:
        mesh = comm.mesh
        self.index, self.size = mesh.tensor_index, mesh.tensor
        self.sequence, self.vocabulary = sequence, vocabulary
        self.tensor_sum = comm.sum_over(mesh.tensor_ranks())
        self.gather = comm.gather_over(mesh.tensor_ranks())
        self.scatter_sum = comm.scatter_sum_over(mesh.tensor_ranks())
        check_divides(config.num_heads, config.num_kv_heads, config.intermediate_size, self.size)

    def local(self, config: TransformerConfig) -> TransformerConfig:
        """Own heads and inner features; one key head is everybody's."""
        return replace(
            config,
            num_heads=config.num_heads // self.size,
            num_kv_heads=max(config.num_kv_heads // self.size, 1),
            intermediate_size=config.intermediate_size // self.size,
        )

    def enter(self) -> nn.Cell:
        """f: `EnterSlices`, or with sequence parallelism `EnterSlicesFromRows`."""
        return EnterSlicesFromRows(self.gather, self.scatter_sum) if self.sequence else EnterSlices(self.tensor_sum)

    def leave(self) -> nn.Cell:
        """g: `LeaveSlices`, or with sequence parallelism `LeaveSlicesToRows`."""
        return LeaveSlicesToRows(self.gather, self.scatter_sum) if self.sequence else LeaveSlices(self.tensor_sum)

    def spread_rows(self) -> nn.Cell | None:
        """See `SpreadRows`."""
        return SpreadRows(self.gather, self.index, self.size) if self.sequence else None

    def before_head(self) -> nn.Cell | None:
        """f where slices divide the head; all rows where each has all of it."""
        if self.vocabulary:
            return self.enter()
        return GatherRows(self.gather, self.index, self.size) if self.sequence else None

    def join_logits(self) -> nn.Cell | None:
        """See `JoinLogits`."""
        return JoinLogits(self.gather, self.size) if self.vocabulary else None

    def sum_lookups(self) -> nn.Cell | None:
        """g on the embeddings of all tokens."""
        return LeaveSlices(self.tensor_sum) if self.vocabulary else None
