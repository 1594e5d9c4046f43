"""Linear layer: the one module in which a weight multiplies an activation."""

from __future__ import annotations

from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.row_operators import AddBias
from mindcoder.models.initializer import Initializer
from mindcoder.models.methods.base import WeightMethod
from mindcoder.models.methods.dense import Dense
from mindcoder.models.tensor_parallel import NO_TP, OUTPUT_AXIS, NoTensorParallel, Shard


class Linear(nn.Cell):
    """Linear layer on ``[Q, in_features]``; a weight method keeps and multiplies its weight.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        initializer: draws the initial weight ``[out_features, in_features]``.
        param_dtype: storage dtype of weight and bias, a name.
        compute_dtype: dtype of the product, a name.
        bias: whether there is one.
        stddev: initial standard deviation of the weight, if it differs from the initializer's.
        activation: cell applied to the inputs, fused with the product, see `WeightMethod`.
        shard: how the weight is divided over tensor-parallel ranks; sizes are global.
        tp: this rank's part of the layers.

    Attributes:
        method: keeps the weight; `Dense` until another one is put in its place (`use`).

    ``construct`` takes ``[Q, in_features]`` (or the inputs of ``activation``) and returns ``[Q,
    out_features]`` in ``compute_dtype``. The method's parameters are attributes of the layer under their own names.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        initializer: Initializer,
        param_dtype: str,
        compute_dtype: str,
        bias: bool = True,
        stddev: float | None = None,
        activation: nn.Cell | None = None,
        shard: Shard = Shard.REPLICATED,
        tp: NoTensorParallel = NO_TP,
    ) -> None:
        super().__init__(auto_prefix=False)  # the method's parameters are named by the layer, not after the method
        stored = resolve_dtype(param_dtype)
        self.shard, self.activation = shard, activation
        weight = initializer.normal((out_features, in_features), stored, stddev, shard.value)
        self.out_features, self.in_features = weight.shape  # of this rank
        self.method: Any = None
        self.use(Dense(Parameter(weight, name="weight"), compute_dtype))
        self.bias = None
        if bias:
            bias_axis = OUTPUT_AXIS if shard is Shard.COLUMN else None
            self.bias = Parameter(initializer.zeros((out_features,), stored, bias_axis), name="bias")
        self.reduce_from_region = tp.reduce_from_region() if shard is Shard.ROW else None
        self.add_bias = AddBias()
        self.compute_dtype = resolve_dtype(compute_dtype)
        self.needs_cast = stored != self.compute_dtype

    def use(self, method: WeightMethod) -> None:
        """Keep and multiply the weight by ``method``, whose parameters take this layer's place in names."""
        present = {} if self.method is None else self.method.layer_parameters()
        prefix = next((item.name.removesuffix(part) for part, item in present.items()), "")
        parameters = method.layer_parameters()
        for part in present:
            if part not in parameters:
                delattr(self, part)
        method.activation = self.activation
        self.method = method
        for part, parameter in parameters.items():
            parameter.name = prefix + part
            setattr(self, part, parameter)

    def construct(self, *inputs: Tensor, seed: Tensor | None = None) -> Tensor:
        """The layer's output; ``seed`` is that of the step, for methods with dropout."""
        if seed is None:
            seed = Tensor(0, ms.int32)
        result = self.method(seed, inputs, self.method.operands(seed))
        if self.reduce_from_region is not None:
            result = self.reduce_from_region(result)
        result = self.method.rescale(result)
        if self.bias is not None:
            result = self.add_bias(result, ops.cast(self.bias, self.compute_dtype) if self.needs_cast else self.bias)
        return result
