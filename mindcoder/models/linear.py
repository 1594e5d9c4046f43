"""Linear layer: the one module in which a weight multiplies an activation."""

from __future__ import annotations

from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.operators import matrix_product
from mindcoder.backend.row_operators import AddBias
from mindcoder.models.initializer import Initializer
from mindcoder.models.tensor_parallel import OUTPUT_AXIS


class WeightProduct(nn.Cell):
    """``x @ weight.T``, with its gradients as two matrix products.

    Args:
        compute_dtype: of the factors, a name, see `matrix_product`.
    """

    def __init__(self, compute_dtype: str = "float32") -> None:
        super().__init__(auto_prefix=False)
        self.compute_dtype = compute_dtype
        self.matmul = matrix_product(transpose_b=True, compute_dtype=compute_dtype)
        self.grad_input = matrix_product(compute_dtype=compute_dtype)
        self.grad_weight = matrix_product(transpose_a=True, compute_dtype=compute_dtype)

    def construct(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.matmul(x, weight)

    def bprop(self, x, weight, out, dout):
        return self.gradients(x, weight, dout)

    def gradients(self, x: Tensor, weight: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the input and the weight."""
        return self.grad_input(dout, weight), self.grad_weight(dout, x)


class Linear(nn.Cell):
    """Linear layer on ``[tokens, in_features]``.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        initializer: draws the initial weight ``[out_features, in_features]``.
        param_dtype: storage dtype of weight and bias, a name.
        compute_dtype: dtype of the product, a name.
        bias: whether there is one.
        stddev: initial standard deviation of the weight, if it differs from the initializer's.
        product: cell of (inputs, weight) that replaces the plain product.
        axis: axis of the weight that is sharded over ranks (`mindcoder.models.tensor_parallel`); sizes are global.
        reduce_from_region: cell that reduces the partial results over ranks before the bias is added.

    ``construct`` takes ``[tokens, in_features]`` (or the inputs of ``product``) and returns ``[tokens, out_features]``
    in ``compute_dtype``.
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
        product: nn.Cell | None = None,
        axis: int | None = None,
        reduce_from_region: nn.Cell | None = None,
    ) -> None:
        super().__init__()
        stored = resolve_dtype(param_dtype)
        weight = initializer.normal((out_features, in_features), stored, stddev, axis)
        self.weight = Parameter(weight, name="weight")
        self.bias = None
        if bias:
            bias_axis = OUTPUT_AXIS if axis == OUTPUT_AXIS else None
            self.bias = Parameter(initializer.zeros((out_features,), stored, bias_axis), name="bias")
        self.reduce_from_region = reduce_from_region
        self.add_bias = AddBias()
        self.product = WeightProduct(compute_dtype) if product is None else product
        self.compute_dtype = resolve_dtype(compute_dtype)
        self.casts = stored != self.compute_dtype

    def construct(self, *inputs: Tensor, seed: Tensor | None = None) -> Tensor:  # for the dropout of a low-rank update
        weight = ops.cast(self.weight, self.compute_dtype) if self.casts else self.weight
        result = self.product(*inputs, weight)
        if self.reduce_from_region is not None:
            result = self.reduce_from_region(result)
        if self.bias is not None:
            result = self.add_bias(result, ops.cast(self.bias, self.compute_dtype) if self.casts else self.bias)
        return result


def replace_linear(owner: nn.Cell, attribute: str, cell: nn.Cell) -> None:
    """Replace a linear layer by ``cell``, keeping the names of its parameters, which MindSpore would change."""
    names = [(parameter, parameter.name) for parameter in cell.get_parameters()]
    setattr(owner, attribute, cell)
    for parameter, name in names:
        parameter.name = name
