"""A layer's gradients at its inputs, for tests of weight methods."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn

from mindcoder.models.linear import Linear


class WeightedSum(nn.Cell):
    """Sum of a layer's outputs, weighted, whose gradient at the inputs is taken."""

    def __init__(self, linear: Linear, weights: Tensor) -> None:
        super().__init__(auto_prefix=False)
        self.linear, self.weights = linear, weights

    def construct(self, *inputs):
        return (self.linear(*inputs) * self.weights).sum()


class InputGradients(nn.Cell):
    """Value of a `WeightedSum` and its gradients at the inputs."""

    def __init__(self, weighted: WeightedSum, inputs: int) -> None:
        super().__init__(auto_prefix=False)
        self.value_and_grad = ms.value_and_grad(weighted, 0 if inputs == 1 else tuple(range(inputs)))

    def construct(self, *inputs):
        return self.value_and_grad(*inputs)
