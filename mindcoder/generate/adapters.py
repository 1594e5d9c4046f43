"""Several low-rank adapters on one base model, a step's tokens each with their own (S-LoRA, Sheng et al. 2023).

The adapters' matrices stand side by side: one product with all of them costs less than one for each while their ranks
together are far below the layer's width. Each token keeps the columns of its own adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.operators import matrix_product
from mindcoder.backend.row_operators import LookUp
from mindcoder.checkpoint.adapter import Adapter
from mindcoder.families.parameter_names import in_layer
from mindcoder.models.decoder import Decoder
from mindcoder.models.linear import Linear, replace_linear
from mindcoder.peft.options import LORA_A, LORA_B

COLUMNS_TOGETHER = 16  # their number is a multiple of it: a vector of the C++ operators


class AdaptedLinear(nn.Cell):
    """A linear layer with the updates of all adapters; for generation only.

    Args:
        linear: what they are added to.
        a, b: of all adapters, ``[R, in]`` and ``[out, R]``; this rank's shards of them.
        shares: ``[T, R]``, see `AdapterBank`.
    """

    def __init__(self, linear: Linear, a: Parameter, b: Parameter, shares: Parameter) -> None:
        super().__init__(auto_prefix=False)
        product: Any = linear.product
        self.weight, self.bias, self.a, self.b, self.shares = linear.weight, linear.bias, a, b, shares
        self.activation = getattr(product, "activation", None)
        self.reduce_from_region, self.add_bias = linear.reduce_from_region, linear.add_bias
        self.matmul = matrix_product(transpose_b=True)
        self.look_up = LookUp()
        self.compute_dtype = linear.compute_dtype

    def construct(self, *inputs: Tensor, seed: Tensor | None = None) -> Tensor:
        hidden_states = inputs[0] if self.activation is None else self.activation(*inputs)
        reduced = self.matmul(hidden_states, ops.cast(self.a, self.compute_dtype))
        shares, tokens = self.shares, hidden_states.shape[0]
        if tokens < shares.shape[0]:
            # On Ascend a slice is a kernel of the old aclop path, and a view of a parameter a copy by one.
            shares = self.look_up(shares, ops.arange(0, tokens, 1, dtype=ms.int32))
        reduced = reduced * ops.cast(shares, self.compute_dtype)
        result = self.matmul(hidden_states, ops.cast(self.weight, self.compute_dtype))
        result = result + self.matmul(reduced, ops.cast(self.b, self.compute_dtype))
        if self.reduce_from_region is not None:
            result = self.reduce_from_region(result)
        if self.bias is not None:
            result = self.add_bias(result, ops.cast(self.bias, self.compute_dtype))
        return result


class AdapterBank:
    """The adapters that a network was given, by name.

    Attributes:
        names: of the adapters; number 0 is the base model, adapter ``i`` of the list has number ``i + 1``.
        shares: float32 Parameter ``[T, R]``: 1 where one of a step's tokens takes a column, 0 elsewhere.
    """

    def __init__(self, ranges: Mapping[str, tuple[int, int]], columns: int, tokens: int) -> None:
        self.names = tuple(ranges)
        self._ranges = list(ranges.values())
        self._current = np.zeros((tokens, columns), np.float32)
        self.shares = Parameter(Tensor(self._current), name="adapter_shares", requires_grad=False)

    def number(self, name: str | None) -> int:
        """Of one of the adapters; 0 is the base model's."""
        return 0 if name is None else self.names.index(name) + 1

    def choose(self, numbers: np.ndarray) -> bool:
        """Give each of the next step's tokens its adapter; whether any of them has one."""
        shares = np.zeros_like(self._current)
        for number in np.unique(numbers[numbers > 0]):
            begin, end = self._ranges[number - 1]
            shares[: len(numbers), begin:end][numbers == number] = 1.0
        if not np.array_equal(shares, self._current):
            self._current = shares
            self.shares.set_data(Tensor(shares))
        return bool(numbers.any())


def add_adapters(decoder: Decoder, adapters: Mapping[str, Adapter], tokens: int) -> AdapterBank:
    """Give a network, or this process's part of it, all ``adapters``; without a choice it computes as before.

    Args:
        decoder: with the base model's weights.
        adapters: by name; they fit the network.
        tokens: the most that a step has.
    """
    tp, config = decoder.tp, decoder.config
    ranges, columns = _ranges(adapters)
    bank = AdapterBank(ranges, columns, tokens)
    shapes = config.linear_shapes()
    for layer, own in zip(decoder.stage.layers, decoder.layers):
        for module, (outputs, inputs) in shapes.items():
            name = in_layer(layer, module)
            if not any(name in adapter.updates for adapter in adapters.values()):
                continue
            whole = {LORA_A: np.zeros((columns, inputs), np.float32), LORA_B: np.zeros((outputs, columns), np.float32)}
            for (begin, _), adapter in zip(ranges.values(), adapters.values()):
                update = adapter.updates.get(name)
                if update is not None:
                    whole[LORA_A][begin : begin + update.rank] = update.a
                    whole[LORA_B][:, begin : begin + update.rank] = update.b * np.float32(update.scaling)
            a, b = (
                Parameter(
                    Tensor(np.ascontiguousarray(tp.shard(values, tp.axis(f"{name}.{matrix}", config)))),
                    name=f"{name}.adapters.{matrix}",
                    requires_grad=False,
                )
                for matrix, values in whole.items()
            )
            part, attribute = module.split(".")
            owner = getattr(own, part)
            replace_linear(owner, attribute, AdaptedLinear(getattr(owner, attribute), a, b, bank.shares))
    return bank


def _ranges(adapters: Mapping[str, Adapter]) -> tuple[dict[str, tuple[int, int]], int]:
    """Each adapter's columns, as many as its largest rank; and how many there are in all."""
    ranges: dict[str, tuple[int, int]] = {}
    begin = 0
    for name, adapter in adapters.items():
        end = begin + max(update.rank for update in adapter.updates.values())
        ranges[name], begin = (begin, end), end
    return ranges, -(-begin // COLUMNS_TOGETHER) * COLUMNS_TOGETHER
