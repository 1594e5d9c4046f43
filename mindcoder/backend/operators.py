"""Normalization, activations and the rotary embedding: MindSpore's operators of an aclnn kernel.

`mindcoder.backend.operator_source` has those that MindSpore lacks on CPU. Attention is in
`mindcoder.backend.attention`, what surrounds the big products in `mindcoder.backend.row_operators`.
"""

from __future__ import annotations

from mindspore import Tensor, nn, ops
from mindspore.ops import auto_generate as aclnn

from mindcoder.backend.library import has_bfloat16
from mindcoder.backend.operator_source import on_cpu, operator

HALVES = 0  # aclnnRotaryPositionEmbedding's mode that pairs element i with i + D/2
QUICK = 1.702
SQRT_HALF = 0.7071067811865476
NORMAL_DENSITY = 0.3989422804014327  # of the standard normal distribution at 0: 1 / sqrt(2 pi)


def matrix_product(transpose_a: bool = False, transpose_b: bool = False, compute_dtype: str = "float32") -> nn.Cell:
    """The operator of ``(a, b)`` that multiplies two matrices.

    Args:
        compute_dtype: of the factors. On Ascend they are of that dtype; on CPU, which has float32 tensors, ``bfloat16``
            rounds them to it where the processor multiplies bfloat16 faster (AMX, AMD's AVX512-BF16). Sums are float32.
    """
    if not on_cpu():
        return aclnn.MatMul(transpose_a, transpose_b)
    return operator("MatMul", transpose_a, transpose_b, rounds=compute_dtype == "bfloat16" and has_bfloat16())


class LayerNorm(nn.Cell):
    """LayerNorm over the last axis: ``(x - mean) / sqrt(var + epsilon) * weight + bias``.

    ``construct(x [Q, H], weight [H], bias [H]) -> [Q, H]``, all of one dtype.
    """

    def __init__(self, epsilon: float) -> None:
        super().__init__(auto_prefix=False)
        self.epsilon = epsilon
        self.layer_norm = operator("LayerNormExt")

    def construct(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return self.layer_norm(x, weight.shape, weight, bias, self.epsilon)[0]


class RMSNorm(nn.Cell):
    """RMSNorm over the last axis: ``x / sqrt(mean(x²) + epsilon) * weight``.

    ``construct(x [Q, H], weight [H]) -> [Q, H]``, both of one dtype.
    """

    def __init__(self, epsilon: float) -> None:
        super().__init__(auto_prefix=False)
        self.rms_norm = operator("RmsNorm", epsilon)

    def construct(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.rms_norm(x, weight)[0]


class GeluTanh(nn.Cell):
    """GELU in its tanh form (HF ``gelu_pytorch_tanh``; Hendrycks and Gimpel 2016); MindSpore's GeLU is that form."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.gelu = operator("GeLU")
        self.gelu_grad = operator("GeLUGrad")

    def construct(self, x: Tensor) -> Tensor:
        return self.gelu(x)

    def gradient(self, x: Tensor, dout: Tensor) -> Tensor:
        """``dout * gelu'(x)``."""
        return self.gelu_grad(dout, x, x)  # the third is the result, which neither device reads (aclnnGeluBackward)


class QuickGelu(nn.Cell):
    """``x * sigmoid(1.702 x)`` (Hendrycks and Gimpel 2016): HF ``quick_gelu``, MindSpore's and MindFormers' FastGeLU.

    MindSpore writes it as ``x / (1 + exp(-1.702 |x|)) * exp(0.851 (x - |x|))``, which is the same number.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.sigmoid = ops.Sigmoid()

    def construct(self, x: Tensor) -> Tensor:
        return x * self.sigmoid(x * QUICK)

    def bprop(self, x, out, dout):
        return (self.gradient(ops.depend(x, dout), dout),)

    def gradient(self, x: Tensor, dout: Tensor) -> Tensor:
        """``dout`` times the derivative at ``x``."""
        gate = self.sigmoid(x * QUICK)
        return dout * gate * (1.0 + x * QUICK * (1.0 - gate))


class GeluExact(nn.Cell):
    """``x * Phi(x)`` with the normal distribution's own Phi (HF ``gelu``; Hendrycks and Gimpel 2016)."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.erf, self.exp = ops.Erf(), ops.Exp()

    def construct(self, x: Tensor) -> Tensor:
        half = x * 0.5
        return half + half * self.erf(x * SQRT_HALF)

    def bprop(self, x, out, dout):
        return (self.gradient(ops.depend(x, dout), dout),)

    def gradient(self, x: Tensor, dout: Tensor) -> Tensor:
        """``dout`` times the derivative at ``x``."""
        phi = self.erf(x * SQRT_HALF) * 0.5 + 0.5
        return dout * (phi + x * self.exp(ops.square(x) * -0.5) * NORMAL_DENSITY)


class SwiGLU(nn.Cell):
    """``silu(gate) * up`` (Shazeer 2020), element by element."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.silu, self.silu_grad = operator("SiLU"), operator("SiLUGrad")

    def construct(self, gate: Tensor, up: Tensor) -> Tensor:
        return self.silu(gate) * up

    def gradient(self, gate: Tensor, up: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of ``gate`` and ``up``."""
        return self.silu_grad(dout * up, gate), dout * self.silu(gate)


class GatedGelu(nn.Cell):
    """``gelu(gate) * up`` (Shazeer 2020's GEGLU) with GELU's tanh form, element by element."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.gelu, self.gelu_grad = operator("GeLU"), operator("GeLUGrad")

    def construct(self, gate: Tensor, up: Tensor) -> Tensor:
        return self.gelu(gate) * up

    def gradient(self, gate: Tensor, up: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of ``gate`` and ``up``."""
        return self.gelu_grad(dout * up, gate, gate), dout * self.gelu(gate)


class ApplyRotary(nn.Cell):
    """Rotary embedding of heads ``[*, D]``: element i pairs with i + D/2 (Su et al. 2021 in GPT-NeoX's layout).

    ``construct(x [Q*N, D], cos, sin) -> [Q*N, D]``, and what `per_head` gives:
    aclnnRotaryPositionEmbedding in layout BSND with B = 1, whose cosines and sines all heads of a token share.
    """

    def __init__(self, head_dim: int) -> None:
        super().__init__(auto_prefix=False)
        self.head_dim = head_dim
        self.rotary = operator("RotaryPositionEmbedding")

    def per_head(self, values: Tensor) -> Tensor:
        """A token's cosines or sines as ``construct`` wants them: ``[Q, D] -> [1, Q, 1, D]``."""
        return values.reshape((1, values.shape[0], 1, values.shape[1]))

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """``[Q*N, D]`` to ``[Q*N, D]``."""
        heads = x.reshape((1, cos.shape[1], x.shape[0] // cos.shape[1], self.head_dim))
        return self.rotary(heads, cos, sin, HALVES).reshape(x.shape)

    def construct(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return self.rotate(x, cos, sin)

    def bprop(self, x, cos, sin, out, dout):
        # The transpose of a rotation turns back: both elements of a pair have one angle.
        return self.rotate(dout, cos, -sin), ops.zeros_like(cos), ops.zeros_like(sin)
