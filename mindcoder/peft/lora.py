"""LoRA in the network: mindpet's layer around each target linear layer, everything else frozen.

mindpet's `LoRADense` creates and validates the matrices; the products are ours, because they have to run on shards of
layers, recompute activations instead of keeping them, and draw dropout masks that can be drawn again.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.dropout import CounterDropout
from mindcoder.backend.operators import matrix_product
from mindcoder.families.parameter_names import split_layer
from mindcoder.models.decoder import Decoder
from mindcoder.models.linear import Linear, WeightProduct, replace_linear
from mindcoder.models.mlp import ActivatedProduct, GatedProduct
from mindcoder.models.tensor_parallel import ROW_PARALLEL, NoTensorParallel
from mindcoder.peft.mindpet_cells import mindpet_cell
from mindcoder.peft.options import LORA_A, LORA_B, MAGNITUDE, LoraOptions, adapter_shapes, matching_linears

FIRST_SITE = 1 << 12  # first dropout site; those of the network itself come before
SITES_OF_A_LAYER = 8
SITES_PER_RANK = 1 << 16


class LowRankSum(nn.Cell):
    """``x @ weight.T + scaling * dropout(x) @ a.T @ b.T`` and its gradients.

    On a shard of a layer this is a partial result, reduced like the weight's own product: the update is linear in the
    shard too.
    """

    def __init__(
        self, activation: Any, scaling: float, dropout: CounterDropout | None, compute_dtype: str = "float32"
    ) -> None:
        super().__init__(auto_prefix=False)
        self.activation, self.scaling, self.dropout = activation, scaling, dropout
        self.product = WeightProduct(compute_dtype)

    def forward(self, x: Tensor, weight: Tensor, a: Tensor, b: Tensor, seed: Tensor) -> Tensor:
        """The sum of both products."""
        reduced = self.product(self.dropped(x, seed), a) * self.scaling
        return self.product(x, weight) + self.product(reduced, b)

    def dropped(self, x: Tensor, seed: Tensor) -> Tensor:
        """Input of the update, after dropout."""
        if self.dropout is None or not self.training:
            return x
        return x * self.dropout.mask(x, seed)

    def gradients(self, x: Tensor, weight: Tensor, a: Tensor, b: Tensor, seed: Tensor, dout: Tensor) -> tuple:
        """Gradients of the input and the three matrices; the compiler removes that of the frozen weight."""
        grad, grad_weight = self.product.gradients(x, weight, dout)
        dropped = self.dropped(x, seed)
        grad_reduced, grad_b = self.product.gradients(self.product(dropped, a) * self.scaling, b, dout)
        grad_dropped, grad_a = self.product.gradients(dropped, a, grad_reduced * self.scaling)
        return grad + self.dropped(grad_dropped, seed), grad_weight, grad_a, grad_b


class LowRankProduct(LowRankSum):
    """LoRA product of an input ``x``."""

    def construct(self, x: Tensor, weight: Tensor, a: Tensor, b: Tensor, seed: Tensor) -> Tensor:
        return self.forward(x, weight, a, b, seed)

    def bprop(self, x, weight, a, b, seed, out, dout):
        grad, grad_weight, grad_a, grad_b = self.gradients(x, weight, a, b, seed, dout)
        return grad, grad_weight, grad_a, grad_b, ops.zeros_like(seed)


class ActivatedLowRankProduct(LowRankSum):
    """LoRA product of ``activation(x)``, which is recomputed in the backward pass."""

    def construct(self, x: Tensor, weight: Tensor, a: Tensor, b: Tensor, seed: Tensor) -> Tensor:
        return self.forward(self.activation(x), weight, a, b, seed)

    def bprop(self, x, weight, a, b, seed, out, dout):
        x = ops.depend(x, dout)
        grad, grad_weight, grad_a, grad_b = self.gradients(self.activation(x), weight, a, b, seed, dout)
        return self.activation.gradient(x, grad), grad_weight, grad_a, grad_b, ops.zeros_like(seed)


class GatedLowRankProduct(LowRankSum):
    """LoRA product of ``activation(gate, up)``, which is recomputed in the backward pass."""

    def construct(self, gate: Tensor, up: Tensor, weight: Tensor, a: Tensor, b: Tensor, seed: Tensor) -> Tensor:
        return self.forward(self.activation(gate, up), weight, a, b, seed)

    def bprop(self, gate, up, weight, a, b, seed, out, dout):
        gate = ops.depend(gate, dout)
        grad, grad_weight, grad_a, grad_b = self.gradients(self.activation(gate, up), weight, a, b, seed, dout)
        grad_gate, grad_up = self.activation.gradient(gate, up, grad)
        return grad_gate, grad_up, grad_weight, grad_a, grad_b, ops.zeros_like(seed)


class UpdatedLengths(nn.Cell):
    """Norm of each output row of ``weight + scaling * b @ a``: float32 ``[out]``, treated as a constant by the
    gradient.

    The sum itself is never materialized: ``|w + s*b@a|^2 = |w|^2 + 2s (w @ a.T) . b + s^2 (b @ (a @ a.T)) . b``.

    Args:
        scaling: of the update.
        tensor_sum: all-reduce over ranks that hold parts of the inputs.
    """

    def __init__(self, scaling: float, tensor_sum: nn.Cell | None) -> None:
        super().__init__(auto_prefix=False)
        self.scaling, self.tensor_sum = scaling, tensor_sum
        self.by_rows, self.product = matrix_product(transpose_b=True), matrix_product()

    def construct(self, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
        weight, a, b = (ops.cast(ops.stop_gradient(item), ms.float32) for item in (weight, a, b))
        turned = self.by_rows(weight, a) * (2.0 * self.scaling) + self.product(b, self.by_rows(a, a)) * self.scaling**2
        squares = ops.square(weight).sum(1) + (turned * b).sum(1)
        if self.tensor_sum is not None:
            squares = self.tensor_sum(squares)
        return ops.stop_gradient(ops.sqrt(squares))


class Rescale(nn.Cell):
    """``x [tokens, out] * factors [out]``; the gradient of the factors is a product with ones, see `AddBias`."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.matmul, self.ones = matrix_product(), ops.Ones()

    def construct(self, x: Tensor, factors: Tensor) -> Tensor:
        return x * factors.reshape((1, -1))

    def bprop(self, x, factors, out, dout):
        ones = self.ones((1, dout.shape[0]), dout.dtype)
        return dout * factors.reshape((1, -1)), self.matmul(ones, dout * x).reshape(factors.shape)


def _low_rank_product(linear: Linear, scaling: float, dropout: CounterDropout | None) -> LowRankSum:
    """The LoRA counterpart of the linear layer's product."""
    product: Any = linear.product
    if isinstance(product, GatedProduct):
        return GatedLowRankProduct(product.activation, scaling, dropout, product.product.compute_dtype)
    if isinstance(product, ActivatedProduct):
        return ActivatedLowRankProduct(product.activation, scaling, dropout, product.product.compute_dtype)
    return LowRankProduct(None, scaling, dropout, product.compute_dtype)


def lora_linear(
    linear: Linear, options: LoraOptions, a: Tensor, site: int, tensor_sum: nn.Cell | None = None
) -> nn.Cell:
    """A linear layer with a low-rank update that replaces ``linear`` and takes over its weight and bias.

    Args:
        linear: a layer of the network, or a shard of it.
        options: rank, scaling, dropout.
        a: initial value of A ``[rank, in]``; B starts at zero.
        site: of its dropout mask.
        tensor_sum: all-reduce over ranks that hold parts of the layer's inputs.
    """
    LoRADense: Any = mindpet_cell("lora", "LoRADense")

    class LoraLinear(LoRADense):
        """mindpet's layer with the interface of `Linear`: ``[tokens, in] -> [tokens, out]`` (or the inputs of its
        product).
        """

        def __init__(self) -> None:
            outputs, inputs = linear.weight.shape
            super().__init__(inputs, outputs, options.rank, options.alpha, 0.0, a, weight_init="zeros", has_bias=False)
            self.weight, self.bias = linear.weight, linear.bias
            self.reduce_from_region, self.add_bias = linear.reduce_from_region, linear.add_bias
            self.compute_dtype, self.casts = linear.compute_dtype, linear.casts
            self.lora_casts = linear.compute_dtype != ms.float32
            dropout = CounterDropout(options.dropout, site) if options.dropout > 0.0 else None
            self.product = _low_rank_product(linear, options.scaling, dropout)
            self.magnitude = None
            if options.magnitudes:
                self.lengths, self.rescale = UpdatedLengths(options.scaling, tensor_sum), Rescale()
                squares = np.square(ops.cast(linear.weight, ms.float32).asnumpy()).sum(1)
                if tensor_sum is not None:
                    squares = tensor_sum(Tensor(squares)).asnumpy()
                self.magnitude = Parameter(Tensor(np.sqrt(squares)), name=MAGNITUDE)

        def construct(self, *inputs, seed=None):
            if seed is None:
                seed = Tensor(0, ms.int32)
            weight = ops.cast(self.weight, self.compute_dtype) if self.casts else self.weight
            low_a, low_b = self.mindpet_delta_lora_a, self.mindpet_delta_lora_b
            if self.lora_casts:
                low_a, low_b = ops.cast(low_a, self.compute_dtype), ops.cast(low_b, self.compute_dtype)
            result = self.product(*inputs, weight, low_a, low_b, seed)
            if self.reduce_from_region is not None:
                result = self.reduce_from_region(result)
            if self.magnitude is not None:
                lengths = self.lengths(self.weight, self.mindpet_delta_lora_a, self.mindpet_delta_lora_b)
                result = self.rescale(result, ops.cast(self.magnitude / lengths, result.dtype))
            if self.bias is not None:
                result = self.add_bias(result, ops.cast(self.bias, self.compute_dtype) if self.casts else self.bias)
            return result

    return LoraLinear()


def start_value(seed: int, layer: int, index: int, rank: int, inputs: int) -> np.ndarray:
    """Initial value of A ``[rank, inputs]``: uniform within ``±1 / sqrt(inputs)`` (HeUniform of mindpet and PEFT)."""
    bound = inputs**-0.5
    values = np.random.default_rng([seed, layer, index]).uniform(-bound, bound, (rank, inputs))
    return values.astype(np.float32)


def add_lora(decoder: Decoder, options: LoraOptions, seed: int) -> list[Parameter]:
    """Freeze the network, or this rank's part of it, and add a low-rank update to the target linear layers.

    Args:
        decoder: with its weights loaded.
        options: the adapter.
        seed: of the initial values, which are the same in every layout.

    Returns:
        The trainable parameters of this rank.

    Raises:
        ValueError: as `mindcoder.peft.options.matching_linears`.
    """
    config, tp, stage = decoder.config, decoder.tp, decoder.stage
    shapes = adapter_shapes(options, config)
    decoder.freeze()
    added: list[Parameter] = []
    modules = list(config.linear_shapes())
    for name in matching_linears(options, config):
        layer, module = split_layer(name)
        if layer is None or layer not in stage.layers:
            continue
        part, attribute = module.split(".")
        owner = getattr(decoder.layers[layer - stage.layers.start], part)
        index = modules.index(module)
        whole = start_value(seed, layer, index, *shapes[f"{name}.{LORA_A}"])
        values = np.ascontiguousarray(tp.shard(whole, tp.axis(f"{name}.{LORA_A}", config)))
        site = FIRST_SITE + layer * SITES_OF_A_LAYER + index + _own_site(module, tp)
        adapted: Any = lora_linear(
            getattr(owner, attribute),
            options,
            Tensor(values),
            site,
            tp.tensor_sum if module in ROW_PARALLEL else None,
        )
        replace_linear(owner, attribute, adapted)
        parts = {LORA_A: adapted.mindpet_delta_lora_a, LORA_B: adapted.mindpet_delta_lora_b}
        if adapted.magnitude is not None:
            parts[MAGNITUDE] = adapted.magnitude
        for part_name, parameter in parts.items():
            parameter.name = f"{name}.{part_name}"
            added.append(parameter)
    decoder.adapter_shapes = shapes
    return added


def _own_site(module: str, tp: NoTensorParallel) -> int:
    """Dropout site of this rank: ranks with different input features drop different ones, ranks with the same input
    the same.
    """
    return tp.index * SITES_PER_RANK if module in ROW_PARALLEL else 0


def rate_ratios(parameters: ms.ParameterTuple, options: LoraOptions) -> list[float]:
    """Learning rate of each parameter relative to the schedule (LoRA+)."""
    return [options.rate_ratio if item.name.endswith(LORA_B) else 1.0 for item in parameters]
