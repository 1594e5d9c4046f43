"""One training step as one compiled graph: forward, backward, accumulation, clipping, update."""

from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.models.decoder import Decoder
from mindcoder.models.loss import LinearCrossEntropy
from mindcoder.models.slices import KEY_VALUE
from mindcoder.parallel.collectives import SumOver
from mindcoder.parallel.data_parallel import GradientSum
from mindcoder.train.optimizer import AdamW
from mindcoder.train.recompute import RecomputedGradients


class TrainStep(nn.Cell):
    """The step that the trainer calls once a micro batch.

    Args:
        decoder: the network.
        optimizer: updates ``decoder``'s parameters, in the order of ``optimizer.parameters``.
        max_grad_norm: clip the gradient to this global L2 norm; 0 or less leaves it.
        accumulates: keep gradients of several micro batches in buffers; otherwise every call updates.
        loss_scaled: whether ``loss_scale`` may differ from 1 (float16).
        recompute: run every layer again in the backward pass instead of keeping its activations.
        data_sum: sums over the ranks that share each global batch, if there are several.
    """

    def __init__(
        self,
        decoder: Decoder,
        optimizer: AdamW,
        max_grad_norm: float = 0.0,
        accumulates: bool = False,
        loss_scaled: bool = False,
        recompute: bool = False,
        data_sum: SumOver | None = None,
    ) -> None:
        super().__init__(auto_prefix=False)
        self.decoder = decoder
        self.optimizer = optimizer
        self.max_grad_norm = max_grad_norm
        self.accumulates = accumulates
        self.loss_scaled = loss_scaled
        self.weights = optimizer.parameters
        self.loss = LinearCrossEntropy(scaled=loss_scaled)
        self.value_and_grad = (
            RecomputedGradients(decoder, self.loss, self.weights, loss_scaled)
            if recompute
            else ms.value_and_grad(self.forward, 0, weights=self.weights)
        )
        self.embedding_index = [weight.name for weight in self.weights].index(decoder.token_embedding.weight.name)
        self.scatter_add = ops.TensorScatterAdd()
        self.half_square_sum = ops.L2Loss()
        shapes = [tuple(weight.shape) for weight in self.weights]
        self.data_sum = data_sum
        slices, config = decoder.slices, decoder.config
        names = [weight.name for weight in self.weights]
        self.tensor_sum = slices.tensor_sum
        self.sliced = tuple(slices.axis(name, config) is not None for name in names)
        # Key and value heads that all slices share: each slice has the gradient of its own query heads only.
        self.shared_heads = tuple(
            slices.size > 1 and any(f".{part}." in name for part in KEY_VALUE) and not cut
            for name, cut in zip(names, self.sliced)
        )
        self.gradient_sum = None if data_sum is None else GradientSum(data_sum, shapes)
        self.buffers = (
            ms.ParameterTuple(
                [
                    Parameter(
                        ms.common.initializer.initializer("zeros", weight.shape, ms.float32),
                        name=f"accumulated.{weight.name}",
                        requires_grad=False,
                    )
                    for weight in self.weights
                ]
            )
            if accumulates
            else None
        )

    def forward(
        self,
        token_rows: Tensor,
        position_ids: Tensor,
        document_ids: Tensor,
        labels: Tensor,
        seed: Tensor,
        loss_scale: Tensor,
    ) -> Tensor:
        """Scaled mean loss over the labelled tokens from looked-up token embeddings ``[B*S, H]``."""
        hidden = self.decoder.run_layers(token_rows, position_ids, document_ids, seed)
        loss = self.loss(hidden, self.decoder.head_weight(), labels.reshape((-1,)))[0]
        return loss * loss_scale if self.loss_scaled else loss

    def gradients(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        document_ids: Tensor,
        labels: Tensor,
        seed: Tensor,
        loss_scale: Tensor,
    ) -> tuple[Tensor, tuple]:
        """Unscaled loss and scaled gradients.

        The looked-up rows' gradient is added by a scatter into the table's gradient so far: that of the tied head, or
        zeros. The rows' own gradient of the table and the sum of the two would cost two more tensors of its size.
        """
        token_rows = self.decoder.token_embedding(input_ids)
        loss, (grad_rows, grads) = self.value_and_grad(token_rows, position_ids, document_ids, labels, seed, loss_scale)
        if self.loss_scaled:
            loss = loss / loss_scale
        merged = ()
        last = loss
        for index in range(len(grads)):
            grad = grads[index]
            if self.shared_heads[index]:
                last = self.tensor_sum(ops.depend(grad, last))
                grad = last
            if index == self.embedding_index:
                grad = self.scatter_add(grad, input_ids.reshape((-1, 1)), ops.cast(grad_rows, grad.dtype))
            merged += (grad,)
        return loss, merged

    def clip_and_update(self, grads: tuple, divisor: Tensor, learning_rate: Tensor) -> Tensor:
        """Divide by ``divisor``, clip, update; gives the global norm before clipping. A norm that is not finite
        leaves parameters and optimizer untouched."""
        square_sum = sliced_sum = Tensor(0.0, ms.float32)
        for index in range(len(grads)):
            half_square = self.half_square_sum(ops.cast(grads[index], ms.float32))
            if self.sliced[index]:
                sliced_sum = sliced_sum + half_square
            else:
                square_sum = square_sum + half_square
        if self.tensor_sum is not None:
            sliced_sum = self.tensor_sum(ops.depend(sliced_sum, square_sum))
        square_sum = square_sum + sliced_sum
        norm = ops.sqrt(square_sum * 2.0) / divisor
        factor = 1.0 / divisor
        if self.max_grad_norm > 0:
            # + 1e-6 as in torch.nn.utils.clip_grad_norm_
            factor = factor * ops.minimum(self.max_grad_norm / (norm + 1e-6), Tensor(1.0, ms.float32))
        if ops.isfinite(norm):
            norm = ops.depend(norm, self.optimizer(grads, factor, learning_rate))
        return norm

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
    ) -> tuple[Tensor, Tensor]:
        """Run one micro batch.

        Args:
            input_ids, position_ids, document_ids, labels: int32 ``[B, S]``; ``labels[b, s]`` is the token to be
                predicted at position s, or -100.
            seed: int32 scalar of the dropout masks.
            learning_rate: float32 scalar.
            loss_scale: float32 scalar; 1 without loss scaling.
            share: float32 scalar, this micro batch's part of the labelled tokens of the whole step, over all micro
                batches and ranks.
            is_last: bool scalar, update after this micro batch (accumulation).

        Returns:
            The micro batch's mean loss (over several ranks: its share of the step's loss, summed over them) and the
            gradient's global norm (0 when no update was due), float32 scalars.
        """
        loss, grads = self.gradients(input_ids, position_ids, document_ids, labels, seed, loss_scale)
        if self.data_sum is not None:
            loss = self.data_sum(loss * share)
        if not self.accumulates:
            if self.gradient_sum is not None:
                grads = self.gradient_sum(grads, ops.depend(share, loss))
            return loss, self.clip_and_update(grads, loss_scale, learning_rate)
        for index in range(len(grads)):
            added = ops.assign_add(self.buffers[index], ops.cast(grads[index], ms.float32) * share)
            loss = ops.depend(loss, added)
        norm = Tensor(0.0, ms.float32)
        if is_last:
            total = ops.depend(self.buffers, loss)
            if self.gradient_sum is not None:
                total = self.gradient_sum(total, ops.depend(Tensor(1.0, ms.float32), loss))
            norm = self.clip_and_update(total, loss_scale, learning_rate)
            for buffer in self.buffers:
                norm = ops.depend(norm, ops.assign(buffer, ops.depend(ops.zeros_like(buffer), norm)))
        return loss, norm
