"""The one place that knows which collective each backend has.

On CPU (MCCL) a compiled graph can sum over any group (AllReduce) and nothing else; gathering is a sum of padded
pieces there. MCCL matches messages by their order between two ranks and ignores the group, so within a graph
collectives must form one chain (`ops.depend`), the same on all ranks.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindcoder.parallel.mesh import SINGLE, Mesh


class SumOver(nn.Cell):
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


class GatherOver(nn.Cell):
    """The tensors of all ranks of a group, joined along the first axis in the group's order.

    Args:
        group: MindSpore's name of it; None gives the tensor back.
        index, size: this rank's place in it, and its ranks.
        has_all_gather: whether the backend gathers in subgroups; otherwise zeros stand for the others and are summed.
    """

    def __init__(self, group: str | None, index: int, size: int, has_all_gather: bool) -> None:
        super().__init__(auto_prefix=False)
        self.sum = SumOver(group)
        self.size = size
        self.all_gather = ops.AllGather(group) if has_all_gather and group is not None else None
        one_hot = np.zeros((size, 1), np.float32)
        one_hot[index] = 1.0
        self.own_place = Tensor(one_hot)
        self.matmul = ops.MatMul()

    def construct(self, x: Tensor) -> Tensor:
        if self.size == 1:
            return x
        if self.all_gather is not None:
            return self.all_gather(x)
        placed = self.matmul(ops.cast(self.own_place, x.dtype), x.reshape((1, -1)))
        return self.sum(placed).reshape((self.size * x.shape[0], *x.shape[1:]))


@dataclass(frozen=True)
class Collectives:
    """Groups of a mesh by name.

    Attributes:
        mesh: who is where.
        names: MindSpore's group name by ranks.
        has_all_gather: whether the device gathers inside a graph in subgroups.
    """

    mesh: Mesh
    names: dict[tuple[int, ...], str]
    has_all_gather: bool

    def sum_over(self, ranks: tuple[int, ...]) -> SumOver:
        """A cell that sums over ``ranks``, which are one of the mesh's groups or all of it."""
        return SumOver(self.names.get(ranks))

    def gather_over(self, ranks: tuple[int, ...]) -> GatherOver:
        """A cell that joins along the first axis over ``ranks``."""
        return GatherOver(self.names.get(ranks), ranks.index(self.mesh.rank), len(ranks), self.has_all_gather)

    @property
    def everyone(self) -> tuple[int, ...]:
        """All ranks."""
        return tuple(range(self.mesh.size))


def single_process() -> Collectives:
    """A mesh of one, where every collective is the identity."""
    return Collectives(SINGLE, {}, False)


def start_collectives(data: int, pipeline: int, tensor: int) -> Collectives:
    """Meet the other processes and create every group once, in one order.

    Raises:
        ValueError: the launcher started another number of processes than the mesh has.
    """
    world = int(os.environ.get("RANK_SIZE") or os.environ.get("MS_WORKER_NUM") or 1)
    if data * pipeline * tensor != world:
        raise ValueError(f"a mesh of {data} x {pipeline} x {tensor} does not have {world} processes")
    if world == 1:
        return single_process()
    from mindspore.communication import create_group, get_rank, init

    init()
    mesh = Mesh(data, pipeline, tensor, get_rank())
    names: dict[tuple[int, ...], str] = {}
    everyone = tuple(range(world))
    for ranks in [everyone, *(group for group in mesh.all_groups() if group != everyone)]:
        name = "mindcoder_" + "_".join(map(str, ranks))
        if mesh.rank in ranks:
            create_group(name, list(ranks))
            names[ranks] = name
    return Collectives(mesh, names, ms.get_context("device_target") == "Ascend")
