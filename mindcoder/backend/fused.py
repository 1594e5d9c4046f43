"""Kernels for Ascend: the fused operators that the device has. Not run on CPU; see `composed` for its twin."""

from __future__ import annotations

from mindspore import Tensor, nn, ops
from mindspore.ops.operations import _grad_ops

from mindcoder.backend.composed import GeluExact, QuickGelu

__all__ = ["GeluExact", "GeluTanh", "NormalizeRootMeanSquare", "NormalizeRows", "QuickGelu", "RotatePairs", "SwiGLU"]


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


class NormalizeRootMeanSquare(nn.Cell):
    """RMSNorm over the last axis; same contract as `mindcoder.backend.composed.NormalizeRootMeanSquare`."""

    def __init__(self, epsilon: float) -> None:
        super().__init__(auto_prefix=False)
        self.rms_norm = ops.RmsNorm(epsilon)

    def construct(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.rms_norm(x, weight)[0]


class SwiGLU(nn.Cell):
    """``silu(gate) * up``; same contract as `mindcoder.backend.composed.SwiGLU`."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.silu = ops.SiLU()
        self.silu_grad = _grad_ops.SiLUGrad()

    def construct(self, gate: Tensor, up: Tensor) -> Tensor:
        return self.silu(gate) * up

    def gradient(self, gate: Tensor, up: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of ``gate`` and ``up``."""
        return self.silu_grad(dout * up, gate), dout * self.silu(gate)


class RotatePairs(nn.Cell):
    """Rotary embedding of heads in rows; same contract as `mindcoder.backend.composed.RotatePairs`."""

    def __init__(self, head_dim: int) -> None:
        super().__init__(auto_prefix=False)
        self.half = head_dim // 2
        self.join = ops.Concat(-1)

    def construct(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return x * cos + self.join((-x[:, self.half :], x[:, : self.half])) * sin
