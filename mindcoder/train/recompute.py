"""Activation recomputation (Chen et al. 2016): only one layer's activations are alive at a time.

MindSpore's ``Cell.recompute`` has no effect on CPU, so the backward pass is written out layer by layer.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindcoder.models.decoder import Decoder


class RecomputedGradients(nn.Cell):
    """Same interface as `mindcoder.train.gradients.PlainGradients`; keeps only each layer's input.

    On the last stage (or the only one) the inputs are computed here; on the others they come from `ForwardStage`, which
    ran in another graph.

    Args:
        decoder: the network, or a stage of it.
        loss: of the objective; needed on the last stage.
        weights: parameters of the network, in the order of the returned gradients.
        loss_scaled: multiply the loss by ``loss_scale``.
    """

    def __init__(self, decoder: Decoder, loss: nn.Cell, weights: ms.ParameterTuple, loss_scaled: bool) -> None:
        super().__init__(auto_prefix=False)
        self.decoder = decoder
        self.is_first, self.is_last = decoder.stage.is_first, decoder.stage.is_last
        self.loss = loss
        self.loss_scaled = loss_scaled
        self.layer_weights = [ms.ParameterTuple(layer.trainable_params()) for layer in decoder.layers]
        head_weights: list[ms.Parameter] = []
        self.trains_head = False
        if self.is_last:
            ends = [decoder.head_parameter(), *decoder.final_norm.get_parameters()]
            head_weights = [weight for weight in ends if weight.requires_grad]
            self.trains_head = bool(head_weights)
            listed = ms.ParameterTuple(head_weights) if head_weights else None
            self.head_gradient = ms.value_and_grad(self.head, 0, weights=listed)
        table = decoder.position_embedding
        trains_table = table is not None and table.weight.requires_grad
        self.embed_weights = ms.ParameterTuple([table.weight]) if trains_table else None
        # The order in which `construct` computes gradients; `order` maps it to the order of ``weights``.
        found = [*head_weights, *(self.embed_weights or ()), *(item for layer in self.layer_weights for item in layer)]
        names = [weight.name for weight in found]
        self.lookup = decoder.token_embedding
        lookup = () if self.lookup is None else (self.lookup.weight.name,)
        unknown = [weight.name for weight in weights if weight.name not in (*names, *lookup)]
        if unknown:
            raise ValueError(f"no gradient is computed for {', '.join(unknown)}")
        self.order = tuple(names.index(weight.name) if weight.name in names else -1 for weight in weights)
        self.gradient = ops.GradOperation(get_all=True, get_by_list=True, sens_param=True)
        self.input_gradient = ops.GradOperation(get_all=True, sens_param=True)

    def head(self, hidden_states: Tensor, targets: tuple, loss_scale: Tensor) -> Tensor:
        """Scaled loss from the output of the last layer."""
        hidden_states = self.decoder.final_norm_output(hidden_states)
        loss = self.loss(hidden_states, self.decoder.head_weight(), targets)[0]
        return loss * loss_scale if self.loss_scaled else loss

    def zeros(self, longest: Tensor) -> Tensor:
        """For the looked-up table. From a number that the compiler does not know: it would keep a constant of the
        table's size on the device for good."""
        weight = self.lookup.weight
        return ops.broadcast_to(ops.cast(longest < 0, weight.dtype).reshape((1, 1)), weight.shape)

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
        decoder = self.decoder
        position_ids, cos_sin, mask = decoder.shared_inputs(position_ids, document_ids)
        batch, length = position_ids.shape
        longest = position_ids.max()
        loss, inputs, grad_hidden, head_grads = Tensor(0.0, ms.float32), layer_inputs, grad_output, ()
        if self.is_last:
            inputs = (decoder.embed(hidden_states, position_ids, seed) if self.is_first else hidden_states,)
            for index in range(len(decoder.layers)):
                inputs += (decoder.layers[index](inputs[index], cos_sin, mask, seed, batch, length),)
            last = inputs[len(decoder.layers)]
            if self.trains_head:
                loss, (grad_hidden, head_grads) = self.head_gradient(last, targets, loss_scale)
            else:
                loss, grad_hidden = self.head_gradient(last, targets, loss_scale)
        layer_grads = ()
        for back in range(len(decoder.layers)):
            index = len(decoder.layers) - 1 - back
            # `depend` keeps the compiler from reusing the activations and the dropout masks of the forward pass.
            layer_input, layer_seed = ops.depend(inputs[index], grad_hidden), ops.depend(seed, grad_hidden)
            arguments = (layer_input, cos_sin, mask, layer_seed, batch, length, grad_hidden)
            if len(self.layer_weights[index]) > 0:
                grad_inputs, grads = self.gradient(decoder.layers[index], self.layer_weights[index])(*arguments)
                layer_grads = grads + layer_grads
            else:  # frozen
                grad_inputs = self.input_gradient(decoder.layers[index])(*arguments)
            grad_hidden = grad_inputs[0]
        embed_grads = ()
        if self.is_first:
            start = ops.depend(hidden_states, grad_hidden)
            if self.embed_weights is None:
                grad_inputs = self.input_gradient(decoder.embed)(start, position_ids, seed, grad_hidden)
            else:
                grad_inputs, embed_grads = self.gradient(decoder.embed, self.embed_weights)(
                    start, position_ids, seed, grad_hidden
                )
            grad_hidden = grad_inputs[0]
        found = head_grads + embed_grads + layer_grads
        ordered = ()
        for number in self.order:
            # An untied embedding has only the gradient of its lookups, which the caller adds.
            ordered += (self.zeros(ops.depend(longest, grad_hidden)) if number < 0 else found[number],)
        return loss, (grad_hidden, ordered)


class ForwardStage(nn.Cell):
    """Forward pass of a pipeline stage before the last one: its output, and the input of every layer."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(auto_prefix=False)
        self.decoder = decoder

    def construct(self, inputs: Tensor, position_ids: Tensor, document_ids: Tensor, seed: Tensor) -> tuple:
        """See `Decoder.construct` for the arguments."""
        decoder = self.decoder
        position_ids, cos_sin, mask = decoder.shared_inputs(position_ids, document_ids)
        batch, length = position_ids.shape
        hidden_states = decoder.embed_tokens(inputs)
        if decoder.stage.is_first:
            hidden_states = decoder.embed(hidden_states, position_ids, seed)
        layer_inputs = ()
        for layer in decoder.layers:
            layer_inputs += (hidden_states,)
            hidden_states = layer(hidden_states, cos_sin, mask, seed, batch, length)
        return hidden_states, layer_inputs
