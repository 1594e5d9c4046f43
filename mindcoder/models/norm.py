"""Normalization over the last axis."""

from __future__ import annotations

from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.operators import LayerNorm, RMSNorm
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.models.initializer import Initializer


class Norm(nn.Cell):
    """LayerNorm with weight and bias, or RMSNorm (Zhang and Sennrich 2019) with weight, as ``config.norm`` says.

    ``[Q, H]`` in, ``[Q, H]`` out in the compute dtype; computed in ``norm_dtype``. ``norm_offset`` is added
    to the weight, which then begins at ``1 - norm_offset``.

    Args:
        config: kind, epsilon, offset and dtypes.
        size: of the last axis; the hidden size by default. Norms of another size, of heads, are RMSNorms.
    """

    def __init__(self, config: TransformerConfig, initializer: Initializer, size: int | None = None) -> None:
        super().__init__()
        shape, param_dtype = (size or config.hidden_size,), resolve_dtype(config.param_dtype)
        self.offset = config.norm_offset
        self.weight = Parameter(initializer.full(shape, param_dtype, 1.0 - self.offset), name="weight")
        self.bias = None
        if config.norm == "layer_norm" and size is None:
            self.bias = Parameter(initializer.zeros(shape, param_dtype), name="bias")
            self.normalize = LayerNorm(config.norm_epsilon)
        else:
            self.normalize = RMSNorm(config.norm_epsilon)
        self.norm_dtype = resolve_dtype(config.norm_dtype)
        self.compute_dtype = resolve_dtype(config.compute_dtype)

    def construct(self, x: Tensor) -> Tensor:
        x, weight = ops.cast(x, self.norm_dtype), ops.cast(self.weight, self.norm_dtype)
        if self.offset != 0.0:
            weight = weight + self.offset
        if self.bias is None:
            return ops.cast(self.normalize(x, weight), self.compute_dtype)
        return ops.cast(self.normalize(x, weight, ops.cast(self.bias, self.norm_dtype)), self.compute_dtype)
