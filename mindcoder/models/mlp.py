"""The position-wise feed-forward network."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindcoder.backend.kernels import device_kernels
from mindcoder.models.initializer import Initializer
from mindcoder.models.linear import BiasedMatMul, Linear
from mindcoder.models.transformer_config import TransformerConfig

ACTIVATIONS = {"gelu_tanh": "GeluTanh"}  # TransformerConfig.activation -> kernel class


class ActivatedMatMul(nn.Cell):
    """``activation(x) @ weight.T + bias`` that keeps only ``x`` for the backward pass.

    The activation's output, the largest tensor of a layer, is computed again there.
    """

    def __init__(self, activation: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.activation = activation
        self.product = BiasedMatMul()

    def construct(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return self.product(self.activation(x), weight, bias)

    def bprop(self, x, weight, bias, out, dout):
        x = ops.depend(x, dout)
        grad_active, grad_weight, grad_bias = self.product.gradients(self.activation(x), weight, bias, dout)
        return self.activation.gradient(x, grad_active), grad_weight, grad_bias


class MLP(nn.Cell):
    """``down(activation(up(x)))``; ``[rows, H] -> [rows, H]`` through ``[rows, F]``."""

    def __init__(
        self,
        config: TransformerConfig,
        initializer: Initializer,
        output_stddev: float,
        param_dtype: ms.dtype.Number,
        compute_dtype: ms.dtype.Number,
    ) -> None:
        super().__init__()
        dtypes = (initializer, param_dtype, compute_dtype)
        activation = getattr(device_kernels(), ACTIVATIONS[config.activation])()
        self.up = Linear(config.hidden_size, config.intermediate_size, *dtypes)
        self.down = Linear(
            config.intermediate_size,
            config.hidden_size,
            *dtypes,
            stddev=output_stddev,
            product=ActivatedMatMul(activation),
        )

    def construct(self, rows: Tensor) -> Tensor:
        return self.down(self.up(rows))
