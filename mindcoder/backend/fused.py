"""Kernels for Ascend: the fused operators that the device has. Not run on CPU; see `composed` for its twin."""

from __future__ import annotations

from mindspore import Tensor, nn, ops
from mindspore.ops.operations import _grad_ops


class NormalizeRows(nn.Cell):
    """LayerNorm over the last axis; same contract as `mindcoder.backend.composed.NormalizeRows`."""

    def __init__(self, epsilon: float) -> None:
        super().__init__(auto_prefix=False)
        self.layer_norm = ops.LayerNorm(begin_norm_axis=-1, begin_params_axis=-1, epsilon=epsilon)

    def construct(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return self.layer_norm(x, weight, bias)[0]


class GeluTanh(nn.Cell):
    """GELU in its tanh form; MindSpore's GeLU operator is that form."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.gelu = ops.GeLU()
        self.gelu_grad = _grad_ops.GeLUGrad()

    def construct(self, x: Tensor) -> Tensor:
        return self.gelu(x)

    def gradient(self, x: Tensor, dout: Tensor) -> Tensor:
        """``dout * gelu'(x)``."""
        return self.gelu_grad(dout, x, self.gelu(x))
