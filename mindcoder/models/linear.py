"""The one seam through which a weight multiplies an activation."""

from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.models.initializer import Initializer


class BiasedMatMul(nn.Cell):
    """``x @ weight.T + bias`` with a gradient made of three matrix products.

    MindSpore's own bias gradient (BiasAddGrad) is a slow reduction on CPU; a product with a row of ones
    is 40 times faster there and as good anywhere else.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.matmul = ops.MatMul(transpose_b=True)
        self.bias_add = ops.BiasAdd()
        self.grad_input = ops.MatMul()
        self.grad_weight = ops.MatMul(transpose_a=True)
        self.ones = ops.Ones()

    def construct(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return self.bias_add(self.matmul(x, weight), bias)

    def bprop(self, x, weight, bias, out, dout):
        return self.gradients(x, weight, bias, dout)

    def gradients(self, x: Tensor, weight: Tensor, bias: Tensor, dout: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of input, weight and bias."""
        ones = self.ones((1, dout.shape[0]), dout.dtype)
        grad_bias = self.grad_input(ones, dout).reshape(bias.shape)
        return self.grad_input(dout, weight), self.grad_weight(dout, x), grad_bias


class Linear(nn.Cell):
    """Dense layer on rows.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        initializer: makes the start value of the weight ``[out_features, in_features]``.
        param_dtype: dtype in which weight and bias are stored.
        compute_dtype: dtype of the product.
        stddev: start deviation of the weight, where it is not the initializer's own.
        product: cell of (x, weight, bias), where it is more than their product.

    ``construct`` takes ``[rows, in_features]`` and gives ``[rows, out_features]`` in ``compute_dtype``.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        initializer: Initializer,
        param_dtype: ms.dtype.Number,
        compute_dtype: ms.dtype.Number,
        stddev: float | None = None,
        product: nn.Cell | None = None,
    ) -> None:
        super().__init__()
        self.weight = Parameter(initializer.normal((out_features, in_features), param_dtype, stddev), name="weight")
        self.bias = Parameter(initializer.zeros((out_features,), param_dtype), name="bias")
        self.product = BiasedMatMul() if product is None else product
        self.compute_dtype = compute_dtype
        self.casts = param_dtype != compute_dtype

    def construct(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        if self.casts:
            weight = ops.cast(weight, self.compute_dtype)
            bias = ops.cast(bias, self.compute_dtype)
        return self.product(x, weight, bias)
