"""Activation recomputation (Chen et al. 2016): one layer's activations alive at a time.

MindSpore's ``Cell.recompute`` changes nothing on CPU, so the backward pass is spelled out layer by layer.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindcoder.models.decoder import Decoder
from mindcoder.models.loss import LinearCrossEntropy


class RecomputedGradients(nn.Cell):
    """Same call as ``ms.value_and_grad(TrainStep.forward, 0, weights)``: keeps each layer's input only.

    Args:
        decoder: the network.
        loss: the fused head and loss.
        weights: all parameters, in the network's own order.
        loss_scaled: multiply the loss by ``loss_scale``.
    """

    def __init__(
        self, decoder: Decoder, loss: LinearCrossEntropy, weights: ms.ParameterTuple, loss_scaled: bool
    ) -> None:
        super().__init__(auto_prefix=False)
        self.decoder = decoder
        self.loss = loss
        self.loss_scaled = loss_scaled
        layers = [ms.ParameterTuple(layer.trainable_params()) for layer in decoder.layers]
        positions = ms.ParameterTuple([decoder.position_embedding.weight])
        head = ms.ParameterTuple([decoder.token_embedding.weight, *decoder.final_norm.trainable_params()])
        order = [head[0], *positions, *(weight for layer in layers for weight in layer), *head[1:]]
        if [weight.name for weight in order] != [weight.name for weight in weights]:
            raise ValueError("recomputation needs all parameters of the network in their own order")
        self.layer_weights = layers
        self.gradient = ops.GradOperation(get_all=True, get_by_list=True, sens_param=True)
        self.head_gradient = ms.value_and_grad(self.head, 0, weights=head)
        self.begin_weights = positions

    def head(self, rows: Tensor, labels: Tensor, loss_scale: Tensor) -> Tensor:
        """Scaled loss from the last layer's output."""
        hidden = self.decoder.final_norm(rows)
        loss = self.loss(hidden, self.decoder.head_weight(), labels.reshape((-1,)))[0]
        return loss * loss_scale if self.loss_scaled else loss

    def construct(
        self,
        token_rows: Tensor,
        position_ids: Tensor,
        document_ids: Tensor,
        labels: Tensor,
        seed: Tensor,
        loss_scale: Tensor,
    ) -> tuple:
        decoder = self.decoder
        batch, length = position_ids.shape
        bias = decoder.attention_bias(document_ids)
        inputs = (decoder.begin(token_rows, position_ids, seed),)
        for index in range(len(decoder.layers)):
            inputs += (decoder.layers[index](inputs[index], bias, seed, batch, length),)
        loss, (grad_rows, head_grads) = self.head_gradient(inputs[len(decoder.layers)], labels, loss_scale)
        layer_grads = ()
        for back in range(len(decoder.layers)):
            index = len(decoder.layers) - 1 - back
            # `depend` keeps the compiler from reusing the forward pass's activations.
            rows = ops.depend(inputs[index], grad_rows)
            grad_inputs, grads = self.gradient(decoder.layers[index], self.layer_weights[index])(
                rows, bias, seed, batch, length, grad_rows
            )
            grad_rows = grad_inputs[0]
            layer_grads = grads + layer_grads
        grad_inputs, begin_grads = self.gradient(decoder.begin, self.begin_weights)(
            ops.depend(token_rows, grad_rows), position_ids, seed, grad_rows
        )
        return loss, (grad_inputs[0], (head_grads[0],) + begin_grads + layer_grads + head_grads[1:])
