"""What a linear layer asks of the method that keeps its weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

# This rank's shard of a tensor of the layer, by its name within the layer; None if the checkpoint has no such tensor.
ReadTensor: TypeAlias = "Callable[[str], np.ndarray | None]"


@dataclass(frozen=True)
class NativeParameters:
    """What the C++ step (`mindcoder.backend.native`) takes for a linear layer ``[out, in]``, besides its bias.

    Integers ``q`` stand for ``(q - offset) * scale``. A group is ``in / groups`` inputs of an output, a multiple of 32;
    or all of them.

    Attributes:
        weight: ``[out, in]`` in float32, float16 or int8; or uint8 ``[out, in / 2]`` of two integers from -8 to 7, each
            stored plus 8, that of the even input in the low half.
        scale: of integers, float32 ``[out, groups]``.
        offset: float32 ``[out, groups]``; None for zeros. Or ``[1, 16]``, what the codes of NF4 stand for: a byte of
            the weight is then two codes, that of the even input in the high half, and their numbers are scaled.
        input: float32 ``[2]``, scale and offset by which activations become int8, too; the scale 0 is chosen anew for
            each token. None: they stay floats.
        a, b: matrices of the adapters beside it, ``[R, in]`` and ``[out, R]``.
    """

    weight: Parameter
    scale: Parameter | None = None
    offset: Parameter | None = None
    input: Parameter | None = None
    a: Parameter | None = None
    b: Parameter | None = None


class WeightMethod(nn.Cell):
    """How a linear layer keeps its weight ``[out, in]`` and multiplies by it.

    A method owns its parameters, the product and the product's gradients; `mindcoder.models.linear.Linear` adds what
    is the same with every method: the reduction over ranks, the bias. `Linear.use` swaps one method for another.

    ``construct(seed, inputs, operands)`` is the product ``[Q, out]``. ``inputs`` are the layer's: ``(x,)``, or
    what the activation takes that is fused with the product. ``operands`` come as arguments, because MindSpore gives a
    cell with a ``bprop`` no gradient of a parameter that it reads itself. Only inputs and operands are kept for the
    backward pass: the output of the activation, the largest tensor of a layer, is recomputed there.

    A subclass writes `layer_parameters`, `load`, `matrix`, `operands`, `multiply`, and for training `gradients`.
    ``operands``, ``multiply``, ``gradients`` and ``rescale`` are compiled.

    Args:
        compute_dtype: of the product, a name.

    Attributes:
        activation: cell of the inputs with a method ``gradient``; None for the product of ``x`` itself.
    """

    def __init__(self, compute_dtype: str) -> None:
        super().__init__(auto_prefix=False)
        self.compute_dtype = compute_dtype
        self.activation: Any = None

    def construct(self, seed: Tensor, inputs: tuple, operands: tuple) -> Tensor:
        # `seed` is in the operands of those that use it. It is the first argument because PyNative mode takes what
        # `bprop` returns for (gradients of arguments, a dict of parameters' gradients) if it begins with a tuple.
        return self.multiply(self.activated(inputs), operands)

    def bprop(self, seed, inputs, operands, out, dout):
        no_grad = ops.zeros_like(seed)
        if self.activation is None:
            grad, grads = self.gradients(inputs[0], operands, dout)
            return no_grad, (grad,), grads
        inputs = (ops.depend(inputs[0], dout), *inputs[1:])
        grad, grads = self.gradients(self.activated(inputs), operands, dout)
        if len(inputs) == 1:
            return no_grad, (self.activation.gradient(inputs[0], grad),), grads
        return no_grad, self.activation.gradient(inputs[0], inputs[1], grad), grads

    def activated(self, inputs: tuple) -> Tensor:
        """What is multiplied: ``[Q, in]``."""
        if self.activation is None:
            return inputs[0]
        return self.activation(*inputs)

    def layer_parameters(self) -> dict[str, Parameter]:
        """Parameters by their names within the layer (``weight``), in the order in which the network lists them."""
        raise NotImplementedError

    def load(self, read: ReadTensor) -> None:
        """Set the parameters from the layer's tensors in a checkpoint."""
        raise NotImplementedError

    def matrix(self) -> Tensor:
        """The weight as floating-point numbers, for code that needs its values rather than a product."""
        raise NotImplementedError

    def operands(self, seed: Tensor) -> tuple:
        """What `multiply` takes beside the input: the parameters in the form in which they are multiplied.

        Args:
            seed: int32 scalar, the dropout seed of the step.
        """
        raise NotImplementedError

    def multiply(self, x: Tensor, operands: tuple) -> Tensor:
        """``[Q, in] -> [Q, out]`` in the compute dtype; a partial sum where the inputs are sharded."""
        raise NotImplementedError

    def gradients(self, x: Tensor, operands: tuple, dout: Tensor) -> tuple[Tensor, tuple]:
        """Gradients of the input and of each operand, zeros for operands that are never trained.

        Only needed in training. The compiler removes the gradients of frozen parameters.
        """
        raise NotImplementedError

    def rescale(self, result: Tensor) -> Tensor:
        """Last step of the product ``[Q, out]``, after partial sums are reduced over ranks."""
        return result

    def native_parameters(self) -> NativeParameters | None:
        """The parameters, if the C++ step multiplies by this method.

        None: it does not, and the network generates with MindSpore's operators.
        """
        return None
