"""Kernels for Ascend: the fused operators that the device has, all with an aclnn kernel.

`mindcoder.backend.composed` is the twin for CPU; attention is in `mindcoder.backend.fused_attention`.
"""

from __future__ import annotations

from mindspore import Tensor, nn, ops
from mindspore.ops import auto_generate as aclnn
from mindspore.ops.operations import _grad_ops

from mindcoder.backend.composed import GeluExact, QuickGelu
from mindcoder.backend.fused_attention import AttentionMasks, CausalAttention
from mindcoder.backend.fused_rows import (
    AddBias,
    AddRows,
    Assign,
    AssignAdd,
    Cut,
    FoldBits,
    Fork,
    HalfSquareSum,
    LabelGradient,
    LargestPlace,
    LookUp,
    RowSum,
    WriteRows,
)
from mindcoder.backend.fused_update import AdamWUpdate

__all__ = [
    "AdamWUpdate",
    "AddBias",
    "AddRows",
    "Assign",
    "AssignAdd",
    "AttentionMasks",
    "CausalAttention",
    "Cut",
    "FoldBits",
    "Fork",
    "GeluExact",
    "GeluTanh",
    "HalfSquareSum",
    "LabelGradient",
    "LargestPlace",
    "LookUp",
    "NormalizeRootMeanSquare",
    "NormalizeRows",
    "QuickGelu",
    "RotatePairs",
    "RowSum",
    "SwiGLU",
    "WriteRows",
]

HALVES = 0  # aclnnRotaryPositionEmbedding's mode that pairs element i with i + D/2


class NormalizeRows(nn.Cell):
    """LayerNorm over the last axis; same contract as `mindcoder.backend.composed.NormalizeRows`."""

    def __init__(self, epsilon: float) -> None:
        super().__init__(auto_prefix=False)
        self.epsilon = epsilon
        self.layer_norm = aclnn.LayerNormExt()

    def construct(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return self.layer_norm(x, weight.shape, weight, bias, self.epsilon)[0]


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
        self.silu, self.silu_grad = aclnn.SiLU(), aclnn.SiLUGrad()

    def construct(self, gate: Tensor, up: Tensor) -> Tensor:
        return self.silu(gate) * up

    def gradient(self, gate: Tensor, up: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of ``gate`` and ``up``."""
        return self.silu_grad(dout * up, gate), dout * self.silu(gate)


class RotatePairs(nn.Cell):
    """Rotary embedding of heads in rows; same contract as `mindcoder.backend.composed.RotatePairs`.

    aclnnRotaryPositionEmbedding in layout BSND with B = 1, whose cosines and sines all heads of a token share.
    """

    def __init__(self, head_dim: int) -> None:
        super().__init__(auto_prefix=False)
        self.head_dim = head_dim
        self.rotary = aclnn.RotaryPositionEmbedding()

    def per_head(self, values: Tensor, heads: int) -> Tensor:
        """``[T, D] -> [1, T, 1, D]``."""
        return values.reshape((1, values.shape[0], 1, values.shape[1]))

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """``[R, D]`` to ``[R, D]``."""
        rows = x.reshape((1, cos.shape[1], x.shape[0] // cos.shape[1], self.head_dim))
        return self.rotary(rows, cos, sin, HALVES).reshape(x.shape)

    def construct(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return self.rotate(x, cos, sin)

    def bprop(self, x, cos, sin, out, dout):
        # The transpose of a rotation turns back: both elements of a pair have one angle.
        return self.rotate(dout, cos, -sin), ops.zeros_like(cos), ops.zeros_like(sin)
