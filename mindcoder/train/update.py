"""From gradients to new weights: all-reduce over processes, clipping, optimizer."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.row_operators import Assign, AssignAdd, HalfSquareSum
from mindcoder.families.transformer_config import TOKEN_TABLES
from mindcoder.models.decoder import Decoder
from mindcoder.parallel.data_parallel import GradientSum
from mindcoder.parallel.process_groups import ProcessGroups
from mindcoder.train.optimizer import AdamW


class ClippedUpdate(nn.Cell):
    """All-reduce gradients over the processes that share a step, clip them to a global norm, update.

    Args:
        decoder: the network, or this rank's part of it.
        optimizer: updates its parameters, in the order of ``optimizer.parameters``.
        max_grad_norm: clip to this global L2 norm; 0 or less disables clipping.
        comm: the process groups.
    """

    def __init__(self, decoder: Decoder, optimizer: AdamW, max_grad_norm: float, comm: ProcessGroups) -> None:
        super().__init__(auto_prefix=False)
        self.optimizer, self.max_grad_norm = optimizer, max_grad_norm
        self.half_square_sum = HalfSquareSum()
        mesh, tp, stage = comm.mesh, decoder.tp, decoder.stage
        names = [weight.name for weight in optimizer.parameters]
        shapes = [tuple(weight.shape) for weight in optimizer.parameters]
        self.sharded = tuple(tp.axis(name, decoder.config) is not None for name in names)
        tied_ends = decoder.config.tied_head and not stage.is_whole and (stage.is_first or stage.is_last)
        self.tied_index = names.index(TOKEN_TABLES[0]) if tied_ends and TOKEN_TABLES[0] in names else -1
        # The last stage's copy of a tied embedding has the same gradient as the first stage's: count it once.
        self.counted = tuple(stage.is_first or name != TOKEN_TABLES[0] for name in names)
        self.ends_sum = comm.all_reduce_among(mesh.end_ranks())
        self.tensor_sum = tp.tensor_sum
        self.pipeline_sum = comm.all_reduce_among(mesh.pipeline_ranks()) if mesh.pipeline > 1 else None
        gradient_sum = comm.all_reduce_among(mesh.gradient_ranks())
        self.gradient_sum = GradientSum(gradient_sum, shapes) if mesh.layout.copies > 1 else None

    def sum_all(self, grads: tuple, share: Tensor, last: Tensor) -> tuple:
        """Gradients of the whole step from those of the ranks, weighted by their ``share``.

        ``last`` is any value that the previous collective depends on.
        """
        if self.tied_index >= 0:
            summed = self.ends_sum(ops.depend(grads[self.tied_index], last))
            last = summed
            grads = grads[: self.tied_index] + (summed,) + grads[self.tied_index + 1 :]
        if self.gradient_sum is not None:
            grads = self.gradient_sum(grads, ops.depend(share, last))
        return grads

    def construct(self, grads: tuple, divisor: Tensor, learning_rate: Tensor) -> Tensor:
        """Divide by ``divisor``, clip, update; returns the global norm before clipping. A norm that is not finite
        leaves parameters and optimizer unchanged.
        """
        square_sum = sharded_sum = Tensor(0.0, ms.float32)
        for index in range(len(grads)):
            if self.counted[index]:
                half_square = self.half_square_sum(ops.cast(grads[index], ms.float32))
                if self.sharded[index]:
                    sharded_sum = sharded_sum + half_square
                else:
                    square_sum = square_sum + half_square
        # The all-reduce of the norm must follow those of the gradients on every rank, whatever it counts itself.
        square_sum = ops.depend(square_sum, grads)
        if self.tensor_sum is not None:
            sharded_sum = self.tensor_sum(ops.depend(sharded_sum, square_sum))
        square_sum = square_sum + sharded_sum
        if self.pipeline_sum is not None:
            square_sum = self.pipeline_sum(square_sum)
        norm = ops.sqrt(square_sum * 2.0) / divisor
        factor = 1.0 / divisor
        if self.max_grad_norm > 0:
            # + 1e-6 as in torch.nn.utils.clip_grad_norm_
            factor = factor * ops.minimum(self.max_grad_norm / (norm + 1e-6), Tensor(1.0, ms.float32))
        if ops.isfinite(norm):
            norm = ops.depend(norm, self.optimizer(grads, factor, learning_rate))
        return norm


def gradient_buffers(weights: ms.ParameterTuple) -> ms.ParameterTuple:
    """A float32 accumulation buffer for each weight."""
    return ms.ParameterTuple(
        [
            Parameter(
                ms.common.initializer.initializer("zeros", weight.shape, ms.float32),
                name=f"accumulated.{weight.name}",
                requires_grad=False,
            )
            for weight in weights
        ]
    )


class Accumulate(nn.Cell):
    """Add ``share`` times a micro batch's gradients to the buffers; returns ``value`` after that.

    One after the other, from the last layer to the first as the backward pass makes them: a gradient is freed before
    the next layer's comes, and one float32 product is alive at a time.

    Args:
        buffers: of the gradients, in their order.
        late: which gradients are there only when the backward pass is over; they must not keep others waiting.
    """

    def __init__(self, buffers: ms.ParameterTuple, late: Sequence[bool]) -> None:
        super().__init__(auto_prefix=False)
        self.buffers = buffers
        self.order = tuple(sorted(range(len(buffers)), key=lambda index: (late[index], -index)))
        self.assign, self.assign_add = Assign(), AssignAdd()

    def construct(self, value: Tensor, grads: tuple, share: Tensor) -> Tensor:
        for index in self.order:
            gradient = ops.cast(ops.depend(grads[index], value), ms.float32)
            value = ops.depend(value, self.assign_add(self.buffers[index], gradient * share))
        return value

    def clear(self, value: Tensor) -> Tensor:
        """Zero the buffers once ``value`` (a norm) is computed; returns ``value``."""
        # opaque to the compiler, which would otherwise keep a constant per shape
        zero = ops.cast(value < 0.0, ms.float32)
        for buffer in self.buffers:
            zeros = ops.broadcast_to(ops.depend(zero, value).reshape((1,) * len(buffer.shape)), buffer.shape)
            value = ops.depend(value, self.assign(buffer, zeros))
        return value
