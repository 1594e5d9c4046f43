"""Normalisation over the last axis."""

from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.kernels import device_kernels
from mindcoder.models.initializer import Initializer
from mindcoder.models.transformer_config import TransformerConfig


class LayerNorm(nn.Cell):
    """LayerNorm with weight and bias; ``[rows, size]`` in, ``[rows, size]`` out in ``compute_dtype``."""

    def __init__(
        self,
        size: int,
        epsilon: float,
        initializer: Initializer,
        param_dtype: ms.dtype.Number,
        norm_dtype: ms.dtype.Number,
        compute_dtype: ms.dtype.Number,
    ) -> None:
        super().__init__()
        self.weight = Parameter(initializer.ones((size,), param_dtype), name="weight")
        self.bias = Parameter(initializer.zeros((size,), param_dtype), name="bias")
        self.normalize = device_kernels().NormalizeRows(epsilon)
        self.norm_dtype = norm_dtype
        self.compute_dtype = compute_dtype

    def construct(self, x: Tensor) -> Tensor:
        weight = ops.cast(self.weight, self.norm_dtype)
        bias = ops.cast(self.bias, self.norm_dtype)
        return ops.cast(self.normalize(ops.cast(x, self.norm_dtype), weight, bias), self.compute_dtype)


class RMSNorm(nn.Cell):
    """Root-mean-square norm (Zhang and Sennrich 2019) with weight; shapes as `LayerNorm`."""

    def __init__(
        self,
        size: int,
        epsilon: float,
        initializer: Initializer,
        param_dtype: ms.dtype.Number,
        norm_dtype: ms.dtype.Number,
        compute_dtype: ms.dtype.Number,
    ) -> None:
        super().__init__()
        self.weight = Parameter(initializer.ones((size,), param_dtype), name="weight")
        self.normalize = device_kernels().NormalizeRootMeanSquare(epsilon)
        self.norm_dtype = norm_dtype
        self.compute_dtype = compute_dtype

    def construct(self, x: Tensor) -> Tensor:
        weight = ops.cast(self.weight, self.norm_dtype)
        return ops.cast(self.normalize(ops.cast(x, self.norm_dtype), weight), self.compute_dtype)


NORMS = {"layer_norm": LayerNorm, "rms_norm": RMSNorm}


def build_norm(config: TransformerConfig, initializer: Initializer) -> nn.Cell:
    """The norm that ``config.norm`` names, over the hidden size."""
    return NORMS[config.norm](
        config.hidden_size,
        config.norm_epsilon,
        initializer,
        resolve_dtype(config.param_dtype),
        resolve_dtype(config.norm_dtype),
        resolve_dtype(config.compute_dtype),
    )
