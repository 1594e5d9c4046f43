"""Loss and gradients of one micro batch, for the whole network or a pipeline stage of it."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindcoder.backend.row_operators import AddRows
from mindcoder.models.decoder import Decoder
from mindcoder.train.objectives.base import Objective
from mindcoder.train.recompute import RecomputedGradients


class PlainGradients(nn.Cell):
    """Gradients of inputs and weights of the last stage (or the whole network), with all activations kept.

    ``construct(hidden_states, position_ids, document_ids, targets, seed, loss_scale, grad_output, layer_inputs)`` takes
    the arguments of `Decoder.run_layers`, the targets of `Objective.loss` and the loss scale; it returns the scaled
    loss and (gradient of ``hidden_states``, gradients of ``weights``). Arguments that only other stages need
    (`RecomputedGradients`) are ignored.
    """

    def __init__(self, decoder: Decoder, loss: nn.Cell, weights: ms.ParameterTuple, loss_scaled: bool) -> None:
        super().__init__(auto_prefix=False)
        self.decoder, self.loss, self.loss_scaled = decoder, loss, loss_scaled
        self.value_and_grad = ms.value_and_grad(self.scaled_loss, 0, weights=weights)

    def scaled_loss(
        self,
        hidden_states: Tensor,
        position_ids: Tensor,
        document_ids: Tensor,
        targets: tuple,
        seed: Tensor,
        loss_scale: Tensor,
    ) -> Tensor:
        """Scaled mean loss of the micro batch."""
        hidden_states = self.decoder.run_layers(hidden_states, position_ids, document_ids, seed)
        loss = self.loss(hidden_states, self.decoder.head_weight(), targets)[0]
        return loss * loss_scale if self.loss_scaled else loss

    def construct(
        self,
        hidden_states: Tensor,
        position_ids: Tensor,
        document_ids: Tensor,
        targets: tuple,
        seed: Tensor,
        loss_scale: Tensor,
        grad_output: Tensor,
        layer_inputs: tuple,
    ) -> tuple:
        return self.value_and_grad(hidden_states, position_ids, document_ids, targets, seed, loss_scale)


SMALLEST_SHARE = 1e-20  # in place of 0, of a rank without labels: its loss is divided by it again


def weigh_loss(loss_scale: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Loss scale and share where a loss is weighted by its share before the backward pass, not its gradients after it.

    Context-parallel ranks add their gradients of keys and values up in every layer, each of its own loss.
    """
    return loss_scale * ops.maximum(share, Tensor(SMALLEST_SHARE, ms.float32)), Tensor(1.0, ms.float32)


class MicroBatchGradients(nn.Cell):
    """Gradients of one micro batch for every weight of this rank.

    Args:
        decoder: the network, or a stage of it.
        weights: its parameters, in the order of the returned gradients.
        objective: what is minimized.
        loss_scaled: whether ``loss_scale`` may differ from 1 (float16).
        recompute: recompute every layer in the backward pass instead of keeping its activations; all pipeline stages
            but the last do so anyway, because their backward pass is a separate graph.
    """

    def __init__(
        self,
        decoder: Decoder,
        weights: ms.ParameterTuple,
        objective: Objective,
        loss_scaled: bool = False,
        recompute: bool = False,
    ) -> None:
        super().__init__(auto_prefix=False)
        self.decoder, self.loss_scaled = decoder, loss_scaled
        self.is_first = decoder.stage.is_first
        loss = objective.loss(decoder, loss_scaled)
        kind = RecomputedGradients if recompute or not decoder.stage.is_last else PlainGradients
        self.stage_gradients = kind(decoder, loss, weights, loss_scaled)
        names = [weight.name for weight in weights]
        table = decoder.token_embedding.weight.name if self.is_first else None
        self.embedding_index = names.index(table) if table in names else -1  # frozen, or on another stage
        tp, config = decoder.tp, decoder.config
        self.partial = tuple(tp.has_partial_gradient(name, config) for name in names)
        self.tensor_sum = tp.tensor_sum
        self.add_rows = AddRows()

    def construct(
        self,
        inputs: Tensor,
        position_ids: Tensor,
        document_ids: Tensor,
        targets: tuple,
        seed: Tensor,
        loss_scale: Tensor,
        grad_output: Tensor,
        layer_inputs: tuple = (),
    ) -> tuple[Tensor, Tensor, tuple]:
        """Run forward and backward.

        Args:
            inputs: int32 ids ``[B, S]`` on the first stage, else the hidden states of the previous one.
            position_ids, document_ids: int32 ``[B, S]``.
            targets: of `Objective.loss`.
            seed: int32 scalar of the dropout masks.
            loss_scale: float32 scalar.
            grad_output: gradient of the stage's output; any scalar on the last one.
            layer_inputs: the layer inputs that `ForwardStage` kept; empty on the last stage.

        Returns:
            Unscaled loss (0 except on the last stage), gradient of the stage's input, scaled gradients of all weights.

        The gradient of the embedding lookup is scattered into the table's gradient so far: that of the tied head, or
        zeros. A separate gradient of the table and the sum of the two would cost two more tensors of its size.
        """
        hidden_states = self.decoder.embed_tokens(inputs)
        loss, (grad_hidden, grads) = self.stage_gradients(
            hidden_states, position_ids, document_ids, targets, seed, loss_scale, grad_output, layer_inputs
        )
        if self.loss_scaled:
            loss = loss / loss_scale
        merged: tuple = ()
        last = grad_hidden
        for index in range(len(grads)):
            grad = grads[index]
            if self.partial[index]:
                last = self.tensor_sum(ops.depend(grad, last))
                grad = last
            if index == self.embedding_index:
                table = self.decoder.token_embedding
                own_grad = table.mask_foreign(inputs, ops.cast(grad_hidden, grad.dtype))
                grad = self.add_rows(grad, table.local_indices(inputs), own_grad)
            merged += (grad,)
        return loss, grad_hidden, merged
