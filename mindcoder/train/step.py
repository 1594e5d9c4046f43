"""A training step as one compiled graph: forward, backward, accumulation, clipping, update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindcoder.backend.device import compile_ahead
from mindcoder.models.decoder import Decoder
from mindcoder.parallel.process_groups import ProcessGroups, single_process
from mindcoder.train.gradients import MicroBatchGradients, weigh_loss
from mindcoder.train.objectives.base import Objective
from mindcoder.train.objectives.registry import default_objective
from mindcoder.train.optimizer import AdamW
from mindcoder.train.update import Accumulate, ClippedUpdate, gradient_buffers


@dataclass(frozen=True)
class MicroBatch:
    """Inputs of a step's graph for one micro batch.

    Attributes:
        input_ids, position_ids, document_ids, labels: int32 ``[B, S]``.
        seed: int32 scalar of its dropout masks.
        share: float32 scalar, its fraction of the step's `Objective.weight`.
        extra_targets: what the objective's loss takes beside them, see `Objective.extra_targets`.
    """

    input_ids: Tensor
    position_ids: Tensor
    document_ids: Tensor
    labels: Tensor
    seed: Tensor
    share: Tensor
    extra_targets: tuple[Tensor, ...] = ()


class Step(Protocol):
    """One update of this rank's parameters; the interface that the trainer uses."""

    def run(self, micro_batches: Sequence[MicroBatch], rate: float, scale: float) -> tuple[float, float]:
        """Loss and gradient norm of an update at learning rate ``rate`` and loss scale ``scale``."""

    def set_train(self, train: bool) -> object:
        """Switch dropout on or off."""


class TrainStep(nn.Cell):
    """The step, which the trainer calls once per micro batch.

    Args:
        decoder: the network.
        optimizer: updates ``decoder``'s parameters, in the order of ``optimizer.parameters``.
        max_grad_norm: clip the gradient to this global L2 norm; 0 or less disables clipping.
        accumulates: accumulate gradients of several micro batches in buffers; otherwise every call updates.
        loss_scaled: whether ``loss_scale`` may differ from 1 (float16).
        recompute: recompute every layer in the backward pass instead of keeping its activations.
        comm: the processes that share each step.
        objective: what is minimized; next-token prediction by default.
    """

    def __init__(
        self,
        decoder: Decoder,
        optimizer: AdamW,
        max_grad_norm: float = 0.0,
        accumulates: bool = False,
        loss_scaled: bool = False,
        recompute: bool = False,
        comm: ProcessGroups | None = None,
        objective: Objective | None = None,
    ) -> None:
        super().__init__(auto_prefix=False)
        comm = comm or single_process()
        self.weights = optimizer.parameters
        mesh = comm.mesh
        self.weighs_loss = mesh.context > 1
        self.micro_batch = MicroBatchGradients(
            decoder, self.weights, objective or default_objective(), loss_scaled or self.weighs_loss, recompute
        )
        self.update = ClippedUpdate(decoder, optimizer, max_grad_norm, comm)
        self.data_sum = comm.all_reduce_among(mesh.gradient_ranks()) if mesh.layout.copies > 1 else None
        self.accumulates = accumulates
        self.buffers = gradient_buffers(self.weights) if accumulates else None
        self.accumulate: Any = Accumulate(self.buffers, self.micro_batch.partial) if accumulates else None
        self._compiled_for: set[tuple[int, ...]] = set()

    def run(self, micro_batches: Sequence[MicroBatch], rate: float, scale: float) -> tuple[float, float]:
        """One update, see `Step`."""
        loss, norm = 0.0, Tensor(0.0, ms.float32)
        learning_rate, loss_scale = Tensor(rate, ms.float32), Tensor(scale, ms.float32)
        for index, batch in enumerate(micro_batches):
            inputs = (
                *(batch.input_ids, batch.position_ids, batch.document_ids, batch.labels, batch.seed),
                *(learning_rate, loss_scale, batch.share, Tensor(index == len(micro_batches) - 1)),
                *batch.extra_targets,
            )
            if batch.input_ids.shape not in self._compiled_for:  # batches may differ in length
                compile_ahead(self, *inputs)
                self._compiled_for.add(batch.input_ids.shape)
            micro_loss, norm = self(*inputs)
            # With several processes the graph has already weighted and all-reduced the loss.
            share = float(batch.share.asnumpy()) if self.data_sum is None else 1.0
            loss += float(micro_loss.asnumpy()) * share
        return loss, float(norm.asnumpy())

    def gradients(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        document_ids: Tensor,
        labels: Tensor,
        seed: Tensor,
        loss_scale: Tensor,
        *extra_targets: Tensor,
    ) -> tuple[Tensor, tuple]:
        """Unscaled loss and scaled gradients of one micro batch."""
        targets = (labels, document_ids) + extra_targets
        loss, grad_hidden, grads = self.micro_batch(
            input_ids, position_ids, document_ids, targets, seed, loss_scale, loss_scale
        )
        return ops.depend(loss, grad_hidden), grads

    def construct(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        document_ids: Tensor,
        labels: Tensor,
        seed: Tensor,
        learning_rate: Tensor,
        loss_scale: Tensor,
        share: Tensor,
        is_last: Tensor,
        *extra_targets: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Run one micro batch.

        Args:
            input_ids, position_ids, document_ids, labels: int32 ``[B, S]``; ``labels[b, s]`` is the token to be
                predicted at position s, or -100.
            seed: int32 scalar of the dropout masks.
            learning_rate: float32 scalar.
            loss_scale: float32 scalar; 1 without loss scaling.
            share: float32 scalar, this micro batch's fraction of the step's `Objective.weight`, over all micro batches
                and ranks.
            is_last: bool scalar, whether to update after this micro batch (accumulation).
            extra_targets: see `MicroBatch`.

        Returns:
            The micro batch's mean loss (over several ranks: its share of the step's loss, all-reduced) and the
            gradient's global norm (0 when no update was due), float32 scalars.
        """
        scale, weight = weigh_loss(loss_scale, share) if self.weighs_loss else (loss_scale, share)
        loss, grads = self.gradients(input_ids, position_ids, document_ids, labels, seed, scale, *extra_targets)
        if not self.accumulates:
            if self.data_sum is not None:
                loss = self.data_sum(ops.depend(loss * share, grads))
            grads = self.update.sum_all(grads, weight, loss)
            return loss, self.update(grads, loss_scale, learning_rate)
        loss = self.accumulate(loss, grads, weight)
        if self.data_sum is not None:
            loss = self.data_sum(loss * share)
        norm = Tensor(0.0, ms.float32)
        if is_last:
            total = ops.depend(self.buffers, loss)
            total = self.update.sum_all(total, ops.depend(Tensor(1.0, ms.float32), loss), loss)
            norm = self.accumulate.clear(self.update(total, loss_scale, learning_rate))
        return loss, norm
