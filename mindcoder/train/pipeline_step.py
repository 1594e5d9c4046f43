"""Training step of a pipeline stage: one graph each for forward, backward and update, in 1F1B order."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindcoder.backend.device import compile_ahead
from mindcoder.models.decoder import Decoder
from mindcoder.parallel.pipeline_parallel import OneForwardOneBackward
from mindcoder.parallel.process_groups import PipelinePeer, ProcessGroups
from mindcoder.train.gradients import MicroBatchGradients, weigh_loss
from mindcoder.train.objectives.base import Objective
from mindcoder.train.optimizer import AdamW
from mindcoder.train.recompute import ForwardStage
from mindcoder.train.step import MicroBatch
from mindcoder.train.update import Accumulate, ClippedUpdate, gradient_buffers


class StageLink:
    """Point-to-point transfer of hidden states, and of their gradients, to a neighboring stage.

    Args:
        peer: rank of that stage.
        shape: of the hidden states, ``[B*S, H]`` (this rank's part with sequence parallelism).
        dtype: of the hidden states.
    """

    def __init__(self, peer: PipelinePeer, shape: tuple[int, ...], dtype: ms.dtype.Number) -> None:
        self.peer, self.shape, self.dtype = peer, shape, dtype

    def exchange(self, sent: Tensor | None, receives: bool) -> Tensor | None:
        """Send and receive, see `mindcoder.parallel.pipeline_parallel.Link`."""
        return self.peer.exchange(sent, self.shape if receives else None, self.dtype)


def stage_link(decoder: Decoder, comm: ProcessGroups, step: int, tokens: int) -> StageLink | None:
    """Link to the previous (-1) or next (1) stage for micro batches of ``tokens``; None beyond the ends."""
    peer = comm.peer(step)
    if peer is None:
        return None
    local_tokens = tokens // (decoder.tp.size if decoder.tp.sequence else 1)
    return StageLink(peer, (local_tokens, decoder.config.hidden_size), decoder.compute_dtype)


class BackwardStage(nn.Cell):
    """Backward pass of a micro batch, including the forward pass on the last stage; adds to the gradient buffers."""

    def __init__(self, gradients: MicroBatchGradients, accumulate: Accumulate, weighs_loss: bool = False) -> None:
        super().__init__(auto_prefix=False)
        self.gradients, self.accumulate, self.weighs_loss = gradients, accumulate, weighs_loss

    def construct(
        self,
        inputs: Tensor,
        position_ids: Tensor,
        document_ids: Tensor,
        labels: Tensor,
        seed: Tensor,
        share: Tensor,
        loss_scale: Tensor,
        grad_output: Tensor,
        *layer_inputs: Tensor,  # a tuple would be a constant, and the graph compiled again for each
    ) -> tuple[Tensor, Tensor]:
        """Weighted loss and the gradient of the stage's input."""
        scale, weight = weigh_loss(loss_scale, share) if self.weighs_loss else (loss_scale, share)
        loss, grad_hidden, grads = self.gradients(
            inputs, position_ids, document_ids, (labels, document_ids), seed, scale, grad_output, layer_inputs
        )
        return self.accumulate(loss * share, grads, weight), grad_hidden


class FinishStep(nn.Cell):
    """All-reduces over processes, then the update."""

    def __init__(self, update: ClippedUpdate, accumulate: Accumulate, comm: ProcessGroups) -> None:
        super().__init__(auto_prefix=False)
        self.update, self.accumulate = update, accumulate
        mesh = comm.mesh
        self.pipeline_sum = comm.all_reduce_among(mesh.pipeline_ranks())
        self.data_sum = comm.all_reduce_among(mesh.gradient_ranks())

    def construct(self, loss: Tensor, loss_scale: Tensor, learning_rate: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient norm of the step, the same on every rank."""
        loss = self.data_sum(self.pipeline_sum(loss))
        grads = ops.depend(self.accumulate.buffers, loss)
        grads = self.update.sum_all(grads, ops.depend(Tensor(1.0, ms.float32), loss), loss)
        norm = self.update(grads, loss_scale, learning_rate)
        return loss, self.accumulate.clear(norm)


class PipelineStep:
    """Training step of one stage.

    Args:
        decoder: this stage of the network.
        optimizer: updates ``decoder``'s parameters.
        objective: what is minimized; it gets labels and document ids only.
        max_grad_norm: clip to this global norm; 0 disables clipping.
        loss_scaled: whether the loss scale may differ from 1 (float16).
        recompute: keep only layer inputs on the last stage too; the others always do.
        comm: all processes.
    """

    def __init__(
        self,
        decoder: Decoder,
        optimizer: AdamW,
        objective: Objective,
        max_grad_norm: float,
        loss_scaled: bool,
        recompute: bool,
        comm: ProcessGroups,
    ) -> None:
        self.decoder, self.comm = decoder, comm
        weighs_loss = comm.mesh.context > 1
        gradients = MicroBatchGradients(decoder, optimizer.parameters, objective, loss_scaled or weighs_loss, recompute)
        accumulate = Accumulate(gradient_buffers(optimizer.parameters), gradients.partial)
        self.forward = ForwardStage(decoder)
        self.backward = BackwardStage(gradients, accumulate, weighs_loss)
        self.finish = FinishStep(ClippedUpdate(decoder, optimizer, max_grad_norm, comm), accumulate, comm)
        self._schedule: OneForwardOneBackward[Tensor] | None = None

    def set_train(self, train: bool) -> None:
        """Switch dropout on or off."""
        self.forward.set_train(train)
        self.backward.set_train(train)

    def run(self, micro_batches: Sequence[MicroBatch], rate: float, scale: float) -> tuple[float, float]:
        """Run one update; returns the step's loss and gradient norm.

        Args:
            micro_batches: the part of the step of this data-parallel rank.
            rate: learning rate.
            scale: loss scale.
        """
        loss_scale = Tensor(scale, ms.float32)
        loss = Tensor(0.0, ms.float32)
        schedule = self._schedule or self._prepare(micro_batches[0], loss_scale)

        kept: dict[int, tuple[Tensor, ...]] = {}

        def forward(index: int, entered: Tensor | None) -> Tensor:
            batch = micro_batches[index]
            inputs = batch.input_ids if entered is None else entered
            leaving, kept[index] = self.forward(inputs, batch.position_ids, batch.document_ids, batch.seed)
            return leaving

        def backward(index: int, entered: Tensor | None, gradient: Tensor | None) -> Tensor:
            nonlocal loss
            arguments = self._arguments(micro_batches[index], entered, gradient, loss_scale)
            micro_loss, back = self.backward(*arguments, *kept.pop(index, ()))
            loss = loss + micro_loss
            return back

        schedule.run(len(micro_batches), forward, backward)
        loss, norm = self.finish(loss, loss_scale, Tensor(rate, ms.float32))
        return float(loss.asnumpy()), float(norm.asnumpy())

    def _arguments(
        self, batch: MicroBatch, entered: Tensor | None, gradient: Tensor | None, loss_scale: Tensor
    ) -> tuple[Tensor, ...]:
        inputs = batch.input_ids if entered is None else entered
        rest = (batch.labels, batch.seed, batch.share, loss_scale, loss_scale if gradient is None else gradient)
        return (inputs, batch.position_ids, batch.document_ids, *rest)

    def _prepare(self, batch: MicroBatch, loss_scale: Tensor) -> OneForwardOneBackward[Tensor]:
        """Set up links for micro batches of this size and compile both graphs before any rank waits for another."""
        mesh, tokens = self.comm.mesh, batch.input_ids.size
        previous, following = (stage_link(self.decoder, self.comm, step, tokens) for step in (-1, 1))
        entered = None if previous is None else ops.zeros(previous.shape, previous.dtype)
        gradient = None if following is None else ops.zeros(following.shape, following.dtype)
        layer_inputs: tuple[Tensor, ...] = ()
        if following is not None:
            inputs = batch.input_ids if entered is None else entered
            compile_ahead(self.forward, inputs, batch.position_ids, batch.document_ids, batch.seed)
            layer_inputs = (gradient,) * len(self.decoder.layers)  # all have the same shape
        compile_ahead(self.backward, *self._arguments(batch, entered, gradient, loss_scale), *layer_inputs)
        self._schedule = OneForwardOneBackward(mesh.stage, mesh.pipeline, previous, following)
        return self._schedule
