"""The position-wise feed-forward network, plain or gated."""

from __future__ import annotations

from mindspore import Tensor, nn, ops

from mindcoder.backend.operators import GeluExact, GeluTanh, QuickGelu, SwiGLU
from mindcoder.backend.row_operators import Fork
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.models.initializer import Initializer
from mindcoder.models.linear import Linear, WeightProduct
from mindcoder.models.tensor_parallel import INPUT_AXIS, NO_TP, OUTPUT_AXIS, NoTensorParallel

# (TransformerConfig.activation, gated_mlp) -> cell
ACTIVATIONS = {
    ("gelu", False): GeluExact,
    ("gelu_tanh", False): GeluTanh,
    ("quick_gelu", False): QuickGelu,
    ("silu", True): SwiGLU,
}


class ActivatedProduct(nn.Cell):
    """``activation(x) @ weight.T``, keeping only ``x`` for the backward pass.

    The output of the activation, the largest tensor of a layer, is recomputed there.
    """

    def __init__(self, activation: nn.Cell, compute_dtype: str = "float32") -> None:
        super().__init__(auto_prefix=False)
        self.activation = activation
        self.product = WeightProduct(compute_dtype)

    def construct(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.product(self.activation(x), weight)

    def bprop(self, x, weight, out, dout):
        x = ops.depend(x, dout)
        grad_active, grad_weight = self.product.gradients(self.activation(x), weight, dout)
        return self.activation.gradient(x, grad_active), grad_weight


class GatedProduct(nn.Cell):
    """``activation(gate, up) @ weight.T``, keeping only ``gate`` and ``up`` for the backward pass."""

    def __init__(self, activation: nn.Cell, compute_dtype: str = "float32") -> None:
        super().__init__(auto_prefix=False)
        self.activation = activation
        self.product = WeightProduct(compute_dtype)

    def construct(self, gate: Tensor, up: Tensor, weight: Tensor) -> Tensor:
        return self.product(self.activation(gate, up), weight)

    def bprop(self, gate, up, weight, out, dout):
        gate = ops.depend(gate, dout)
        grad_active, grad_weight = self.product.gradients(self.activation(gate, up), weight, dout)
        grad_gate, grad_up = self.activation.gradient(gate, up, grad_active)
        return grad_gate, grad_up, grad_weight


class MLP(nn.Cell):
    """``down(activation(up(x)))`` or ``down(activation(gate(x), up(x)))``; ``[tokens, H] -> [tokens, H]``."""

    def __init__(
        self,
        config: TransformerConfig,
        initializer: Initializer,
        output_stddev: float,
        tp: NoTensorParallel = NO_TP,
    ) -> None:
        super().__init__()
        dtypes = (initializer, config.param_dtype, config.compute_dtype, config.mlp_bias)
        divided = tp.size > 1
        column, row = (OUTPUT_AXIS, INPUT_AXIS) if divided else (None, None)
        activation = ACTIVATIONS[config.activation, config.gated_mlp]()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.copy_to_region = tp.copy_to_region()
        self.share = Fork(2)
        self.gate = Linear(hidden, inner, *dtypes, axis=column) if config.gated_mlp else None
        self.up = Linear(hidden, inner, *dtypes, axis=column)
        product = (GatedProduct if config.gated_mlp else ActivatedProduct)(activation, config.compute_dtype)
        self.down = Linear(
            inner,
            hidden,
            *dtypes,
            stddev=output_stddev,
            product=product,
            axis=row,
            reduce_from_region=tp.reduce_from_region(),
        )

    def construct(self, hidden_states: Tensor, seed: Tensor | None = None) -> Tensor:
        if self.copy_to_region is not None:
            hidden_states = self.copy_to_region(hidden_states)
        if self.gate is None:
            return self.down(self.up(hidden_states, seed=seed), seed=seed)
        for_gate, for_up = self.share(hidden_states)
        return self.down(self.gate(for_gate, seed=seed), self.up(for_up, seed=seed), seed=seed)
