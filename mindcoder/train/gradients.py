"""Loss and gradients of one micro batch, for the whole network or a pipeline stage of it."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindcoder.backend.kernels import device_kernels
from mindcoder.models.decoder import Decoder
from mindcoder.models.loss import LabelledCrossEntropy, LinearCrossEntropy
from mindcoder.models.preference_loss import PreferenceLoss, PreferenceOptions
from mindcoder.parallel.tensor_parallel import SlicedLayers
from mindcoder.parallel.vocabulary import SlicedCrossEntropy, SlicedStatistics
from mindcoder.train.recompute import RecomputedGradients


def head_loss(
    decoder: Decoder, scaled: bool, preference: PreferenceOptions | None = None, picks_rows: bool = False
) -> nn.Cell:
    """The fused head and loss, over a vocabulary that is whole or divided; or the loss on pairs of answers."""
    slices = decoder.slices
    if preference is not None:
        return PreferenceLoss(preference, scaled)
    if picks_rows:
        return LabelledCrossEntropy(head_loss(decoder, scaled))
    if isinstance(slices, SlicedLayers) and slices.vocabulary:
        return SlicedCrossEntropy(sliced_statistics(decoder), scaled)
    return LinearCrossEntropy(scaled)


def sliced_statistics(decoder: Decoder) -> SlicedStatistics:
    """Of a divided vocabulary."""
    slices = decoder.slices
    assert isinstance(slices, SlicedLayers)
    return SlicedStatistics(slices.gather, slices.part(decoder.config.token_rows)[0])


class PlainGradients(nn.Cell):
    """Gradients of inputs and weights of the last stage (or the whole network), with all activations kept.

    ``construct(rows, position_ids, document_ids, labels, seed, loss_scale, grad_output, layer_inputs)`` takes what
    `Decoder.run_layers` does, the labels and the loss scale; it gives the scaled loss and (gradient of ``rows``,
    gradients of ``weights``). What only other stages need (`RecomputedGradients`) is not looked at.
    """

    def __init__(self, decoder: Decoder, loss: nn.Cell, weights: ms.ParameterTuple, loss_scaled: bool) -> None:
        super().__init__(auto_prefix=False)
        self.decoder, self.loss, self.loss_scaled = decoder, loss, loss_scaled
        self.value_and_grad = ms.value_and_grad(self.scaled_loss, 0, weights=weights)

    def scaled_loss(
        self,
        rows: Tensor,
        position_ids: Tensor,
        document_ids: Tensor,
        labels: Tensor,
        seed: Tensor,
        loss_scale: Tensor,
    ) -> Tensor:
        """Scaled mean loss over the labelled tokens."""
        hidden = self.decoder.run_layers(rows, position_ids, document_ids, seed)
        loss = self.loss(hidden, self.decoder.head_weight(), labels)[0]
        return loss * loss_scale if self.loss_scaled else loss

    def construct(
        self,
        rows: Tensor,
        position_ids: Tensor,
        document_ids: Tensor,
        labels: Tensor,
        seed: Tensor,
        loss_scale: Tensor,
        grad_output: Tensor,
        layer_inputs: tuple,
    ) -> tuple:
        return self.value_and_grad(rows, position_ids, document_ids, labels, seed, loss_scale)


class MicroBatchGradients(nn.Cell):
    """What one micro batch adds to every weight of this process.

    Args:
        decoder: the network, or a stage of it.
        weights: its parameters, in the order their gradients are wanted.
        loss_scaled: whether ``loss_scale`` may differ from 1 (float16).
        recompute: run every layer again in the backward pass instead of keeping its activations; all pipeline stages
            but the last do that anyway, because their backward pass is another graph than their forward pass.
        preference: learn from pairs of answers; ``labels`` is then what `PreferenceLoss` takes as targets.
        picks_rows: compute the head at labelled rows only; ``labels`` is then what `LabelledCrossEntropy` takes.
    """

    def __init__(
        self,
        decoder: Decoder,
        weights: ms.ParameterTuple,
        loss_scaled: bool = False,
        recompute: bool = False,
        preference: PreferenceOptions | None = None,
        picks_rows: bool = False,
    ) -> None:
        super().__init__(auto_prefix=False)
        self.decoder, self.loss_scaled = decoder, loss_scaled
        self.is_first = decoder.stage.is_first
        loss = head_loss(decoder, loss_scaled, preference, picks_rows)
        kind = RecomputedGradients if recompute or not decoder.stage.is_last else PlainGradients
        self.stage_gradients = kind(decoder, loss, weights, loss_scaled)
        names = [weight.name for weight in weights]
        table = decoder.token_embedding.weight.name if self.is_first else None
        self.embedding_index = names.index(table) if table in names else -1  # frozen, or another stage's
        slices, config = decoder.slices, decoder.config
        self.partial = tuple(slices.is_partial(name, config) for name in names)
        self.tensor_sum = slices.tensor_sum
        self.add_rows = device_kernels().AddRows()

    def construct(
        self,
        inputs: Tensor,
        position_ids: Tensor,
        document_ids: Tensor,
        labels: Tensor,
        seed: Tensor,
        loss_scale: Tensor,
        grad_output: Tensor,
        layer_inputs: tuple = (),
    ) -> tuple[Tensor, Tensor, tuple]:
        """Run forward and backward.

        Args:
            inputs: int32 ids ``[B, S]`` on the first stage, else the rows of the one before.
            position_ids, document_ids, labels: int32 ``[B, S]``; ``labels[b, s]`` is the token to be predicted at
                position s, or -100.
            seed: int32 scalar of the dropout masks.
            loss_scale: float32 scalar.
            grad_output: gradient of the rows that leave the stage; any scalar on the last one.
            layer_inputs: what `ForwardStage` kept; empty on the last stage.

        Returns:
            Unscaled loss (0 but on the last stage), gradient of the rows that entered, scaled gradients of all weights.

        The looked-up rows' gradient is added by a scatter into the table's gradient so far: that of the tied head, or
        zeros. The rows' own gradient of the table and the sum of the two would cost two more tensors of its size.
        """
        rows = self.decoder.look_up(inputs)
        loss, (grad_rows, grads) = self.stage_gradients(
            rows, position_ids, document_ids, labels, seed, loss_scale, grad_output, layer_inputs
        )
        if self.loss_scaled:
            loss = loss / loss_scale
        merged: tuple = ()
        last = grad_rows
        for index in range(len(grads)):
            grad = grads[index]
            if self.partial[index]:
                last = self.tensor_sum(ops.depend(grad, last))
                grad = last
            if index == self.embedding_index:
                table = self.decoder.token_embedding
                own_rows = table.own(inputs, ops.cast(grad_rows, grad.dtype))
                grad = self.add_rows(grad, table.places(inputs), own_rows)
            merged += (grad,)
        return loss, grad_rows, merged
