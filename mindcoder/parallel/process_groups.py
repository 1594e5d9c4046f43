"""The one module that knows which collective each backend has.

On CPU (MCCL) a compiled graph can sum over any group (AllReduce) and nothing else; gathering is a sum of padded
pieces there, and so is the sum of which each rank keeps a piece. MCCL matches messages by their order between two ranks
and ignores the group, so within a graph collectives must form one chain (`ops.depend`), the same on all ranks. Between
two graphs, Python sends and receives tensors from rank to rank (`PipelinePeer`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindcoder.parallel.mesh import SINGLE, Mesh
from mindcoder.parallel_layout import ParallelLayout

DEFAULT_GROUP = "hccl_world_group"


class AllReduce(nn.Cell):
    """Sum of a tensor over a group of ranks, the same result on each; float32 or float16.

    Args:
        group: MindSpore's name of it; None gives the tensor back.
    """

    def __init__(self, group: str | None) -> None:
        super().__init__(auto_prefix=False)
        self.all_reduce = None if group is None else ops.AllReduce(ops.ReduceOp.SUM, group)

    def construct(self, x: Tensor) -> Tensor:
        if self.all_reduce is None:
            return x
        return self.all_reduce(x)


class AllGather(nn.Cell):
    """The tensors of all ranks of a group, joined along the first axis in the group's order.

    Args:
        group: MindSpore's name of it; None gives the tensor back.
        index, size: this rank's index in it, and its ranks.
        has_all_gather: whether the backend gathers in subgroups; otherwise zeros stand for the others and are summed.
    """

    def __init__(self, group: str | None, index: int, size: int, has_all_gather: bool) -> None:
        super().__init__(auto_prefix=False)
        self.sum = AllReduce(group)
        self.size = size
        self.all_gather = ops.AllGather(group) if has_all_gather and group is not None else None
        own = np.zeros((size, 1), np.float32)
        own[index] = 1.0
        self.one_hot = Tensor(own)
        self.matmul = ops.MatMul()

    def construct(self, x: Tensor) -> Tensor:
        if self.size == 1:
            return x
        if self.all_gather is not None:
            return self.all_gather(x)
        placed = self.matmul(ops.cast(self.one_hot, x.dtype), x.reshape((1, -1)))
        return self.sum(placed).reshape((self.size * x.shape[0], *x.shape[1:]))


class ReduceScatter(nn.Cell):
    """This rank's piece, along the first axis, of the sum over a group; the inverse of `AllGather`.

    Args: as `AllGather`; the first axis must be divisible by ``size``.
    """

    def __init__(self, group: str | None, index: int, size: int, has_reduce_scatter: bool) -> None:
        super().__init__(auto_prefix=False)
        self.sum = AllReduce(group)
        self.index, self.size = index, size
        scatters = has_reduce_scatter and group is not None
        self.reduce_scatter = ops.ReduceScatter(ops.ReduceOp.SUM, group) if scatters else None

    def construct(self, x: Tensor) -> Tensor:
        if self.size == 1:
            return x
        if self.reduce_scatter is not None:
            return self.reduce_scatter(x)
        piece = x.shape[0] // self.size
        return self.sum(x)[self.index * piece : (self.index + 1) * piece]


class PipelinePeer:
    """The rank before or behind this one in the pipeline; tensors travel between compiled graphs.

    Args:
        rank: of it.
        group: MindSpore's name of a group that both are in.
        batches: whether the backend wants what goes both ways as one batch (HCCL), which MCCL does not have.
    """

    def __init__(self, rank: int, group: str, batches: bool) -> None:
        self.rank, self.group, self.batches = rank, group, batches
        self._under_way: list[tuple[Any, Tensor]] = []

    def exchange(self, sent: Tensor | None, shape: tuple[int, ...] | None, dtype: ms.dtype.Number) -> Tensor | None:
        """Send ``sent`` and receive a tensor of ``shape``, each unless None; gives what came."""
        from mindspore import mint
        from mindspore.mint import distributed

        received = None if shape is None else mint.zeros(shape, dtype=dtype)
        if self.batches and sent is not None and received is not None:
            operations = [
                distributed.P2POp(distributed.isend, sent, self.rank, group=self.group),
                distributed.P2POp(distributed.irecv, received, self.rank, group=self.group),
            ]
            for handle in distributed.batch_isend_irecv(operations):
                handle.wait()
            return received
        if sent is not None:
            for handle, _ in self._under_way:  # the one before has long arrived; its tensor had to live until here
                handle.wait()
            self._under_way = [(distributed.isend(sent, dst=self.rank, group=self.group), sent)]
        if received is not None:
            distributed.irecv(received, src=self.rank, group=self.group).wait()
        return received

    def send(self, sent: Tensor) -> None:
        """Send only."""
        self.exchange(sent, None, sent.dtype)


@dataclass(frozen=True)
class ProcessGroups:
    """Groups of a mesh by name.

    Attributes:
        mesh: who is where.
        names: MindSpore's group name by ranks.
        has_all_gather: whether the device gathers and scatters inside a graph in subgroups.
    """

    mesh: Mesh
    names: dict[tuple[int, ...], str]
    has_all_gather: bool

    def all_reduce_among(self, ranks: tuple[int, ...]) -> AllReduce:
        """A cell that sums over ``ranks``, which are one of the mesh's groups or all of it."""
        return AllReduce(self.names.get(ranks))

    def all_gather_among(self, ranks: tuple[int, ...]) -> AllGather:
        """A cell that joins along the first axis over ``ranks``."""
        return AllGather(self.names.get(ranks), ranks.index(self.mesh.rank), len(ranks), self.has_all_gather)

    def reduce_scatter_among(self, ranks: tuple[int, ...]) -> ReduceScatter:
        """A cell that gives this rank's piece of the sum over ``ranks``."""
        return ReduceScatter(self.names.get(ranks), ranks.index(self.mesh.rank), len(ranks), self.has_all_gather)

    def peer(self, step: int) -> PipelinePeer | None:
        """The rank ``step`` stages on (1) or back (-1); None beyond the ends."""
        ranks, stage = self.mesh.pipeline_ranks(), self.mesh.stage + step
        if not 0 <= stage < self.mesh.pipeline:
            return None
        return PipelinePeer(ranks[stage], self.names[ranks], self.has_all_gather)

    @property
    def everyone(self) -> tuple[int, ...]:
        """All ranks."""
        return tuple(range(self.mesh.size))


def single_process() -> ProcessGroups:
    """A mesh of one, where every collective is the identity."""
    return ProcessGroups(SINGLE, {}, False)


def create_process_groups(layout: ParallelLayout) -> ProcessGroups:
    """Initialize communication and create every group once, in the same order on all ranks.

    Raises:
        ValueError: the launcher started another number of processes than the layout has ranks.
    """
    world = int(os.environ.get("RANK_SIZE") or os.environ.get("MS_WORKER_NUM") or 1)
    if layout.devices != world:
        raise ValueError(f"a mesh of {layout.sizes} does not have {world} processes")
    if world == 1:
        return single_process()
    from mindspore.communication import create_group, get_rank, init

    init()
    mesh = Mesh(layout, get_rank())
    names: dict[tuple[int, ...], str] = {}
    everyone = tuple(range(world))
    if ms.get_context("device_target") == "CPU":
        # mint.distributed looks ranks up in the default group, which MCCL does not have under that name.
        create_group(DEFAULT_GROUP, list(everyone))
    for ranks in [everyone, *(group for group in mesh.all_groups() if group != everyone)]:
        name = "mindcoder_" + "_".join(map(str, ranks))
        if mesh.rank in ranks:
            create_group(name, list(ranks))
            names[ranks] = name
    return ProcessGroups(mesh, names, ms.get_context("device_target") == "Ascend")
