"""Normalization over the last axis."""

from __future__ import annotations

from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.operators import LayerNorm, RMSNorm
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.models.initializer import Initializer


class Norm(nn.Cell):
    """LayerNorm with weight and bias, or RMSNorm (Zhang and Sennrich 2019) with weight, as ``config.norm`` says.

    ``[tokens, H]`` in, ``[tokens, H]`` out in the compute dtype; computed in ``norm_dtype``.
    """

    def __init__(self, config: TransformerConfig, initializer: Initializer) -> None:
        super().__init__()
        shape, param_dtype = (config.hidden_size,), resolve_dtype(config.param_dtype)
        self.weight = Parameter(initializer.ones(shape, param_dtype), name="weight")
        self.bias = None
        if config.norm == "layer_norm":
            self.bias = Parameter(initializer.zeros(shape, param_dtype), name="bias")
            self.normalize = LayerNorm(config.norm_epsilon)
        else:
            self.normalize = RMSNorm(config.norm_epsilon)
        self.norm_dtype = resolve_dtype(config.norm_dtype)
        self.compute_dtype = resolve_dtype(config.compute_dtype)

    def construct(self, x: Tensor) -> Tensor:
        x, weight = ops.cast(x, self.norm_dtype), ops.cast(self.weight, self.norm_dtype)
        if self.bias is None:
            return ops.cast(self.normalize(x, weight), self.compute_dtype)
        return ops.cast(self.normalize(x, weight, ops.cast(self.bias, self.norm_dtype)), self.compute_dtype)
