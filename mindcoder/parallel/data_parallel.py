"""Data parallelism: every rank has all weights and its share of each global batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mindspore import Tensor, nn, ops

from mindcoder.backend.row_operators import Cut
from mindcoder.parallel.process_groups import AllReduce, ProcessGroups


class GradientSum(nn.Cell):
    """Sum of all ranks' gradients, each weighted by its rank's share of the step's labeled tokens.

    Vectors (biases, norms) travel together in one bucket, matrices alone: a message of a few kilobytes costs as much as
    one of a hundred. All sums form one chain, in the same order on every rank.

    Args:
        data_sum: sums over the data axis.
        shapes: of the gradients, in their order.
    """

    def __init__(self, data_sum: AllReduce, shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__(auto_prefix=False)
        self.data_sum = data_sum
        self.shapes = tuple(shapes)
        self.bucketed = tuple(len(shape) < 2 for shape in shapes)
        begins, begin = [], 0
        for shape, bucketed in zip(shapes, self.bucketed):
            begins.append(begin)
            begin += int(np.prod(shape)) if bucketed else 0
        self.begins = tuple(begins)
        self.ends = tuple(begin + int(np.prod(shape)) for begin, shape in zip(begins, shapes))
        self.has_bucket = any(self.bucketed)
        self.join = ops.Concat(0)
        self.cut = Cut()

    def construct(self, gradients: tuple, weight: Tensor) -> tuple:
        """Summed gradients; ``weight`` is a float32 scalar, this rank's share."""
        last = weight
        bucket = weight
        if self.has_bucket:
            flat = ()
            for index in range(len(gradients)):
                if self.bucketed[index]:
                    flat += (gradients[index].reshape((-1,)),)
            bucket = self.data_sum(self.join(flat) * weight)
            last = bucket
        summed = ()
        for index in range(len(gradients)):
            if self.bucketed[index]:
                piece = self.cut(bucket, self.begins[index], self.ends[index])
                summed += (piece.reshape(self.shapes[index]),)
            else:
                last = self.data_sum(ops.depend(gradients[index] * weight, last))
                summed += (last,)
        return summed


class HostCollectives:
    """Collectives on a few numbers of the host over all ranks, so that all of them act on the same ones.

    Ranks that work on the same data (tensor-parallel ranks, stages of one pipeline) count once.
    """

    def __init__(self, comm: ProcessGroups) -> None:
        self._mesh = comm.mesh
        self._sum = comm.all_reduce_among(comm.everyone) if comm.mesh.size > 1 else None

    def all_reduce(self, *values: float, from_last_stage: bool = False) -> list[float]:
        """The sums (as exact as float32: whole numbers below 16 million stay whole).

        Args:
            from_last_stage: only the last pipeline stages have the numbers; those of others do not count.
        """
        if self._sum is None:
            return list(values)
        stages = self._mesh.pipeline
        if from_last_stage:
            values = values if self._mesh.stage == stages - 1 else (0.0,) * len(values)
            stages = 1
        return (self._sum(Tensor(np.array(values, np.float32))).asnumpy() / (self._mesh.tensor * stages)).tolist()

    def broadcast(self, value: float) -> float:
        """Rank 0's number; what other ranks pass does not count."""
        return self.all_reduce(value * self._mesh.tensor * self._mesh.pipeline if self._mesh.rank == 0 else 0.0)[0]

    def barrier(self) -> None:
        """Return when every rank has called this."""
        self.all_reduce(0.0)
