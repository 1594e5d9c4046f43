"""An operator of `mindcoder/native` in a MindSpore graph: it puts its arguments in the order that the library tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.ops import CustomRegOp, DataType

from mindcoder.backend.library import LIBRARY, argument_table


def integer(value: int) -> Tensor:
    """An attribute."""
    return Tensor(value, ms.int64)


def number(value: float) -> Tensor:
    """An attribute."""
    return Tensor(value, ms.float32)


def absent() -> Tensor:
    """An input that is left out."""
    return Tensor(np.zeros(0, np.uint8))


@dataclass(frozen=True)
class Output:
    """What an operator gives.

    Args:
        shape: of the shapes of the inputs, by their names.
        dtype: this one, or that of the input of this name.
    """

    shape: Callable[[dict[str, list[int]]], list[int]]
    dtype: Any


def like(name: str) -> Output:
    """Shape and dtype of the input ``name``."""
    return Output(lambda shapes: shapes[name], name)


def native_operator(name: str, takes: str, outputs: Mapping[str, Output]) -> Any:
    """The library's operator ``name``: called with what it takes, it gives its output, or a tuple of several.

    All of one name must infer the same: MindSpore 2.9 asks now and then another one of them (seen when a network was
    compiled for a third shape). So ``outputs`` must not depend on anything but the name.

    Args:
        takes: names of the inputs in the order in which a call gives them, with commas between them. Attributes are
            inputs, too.
        outputs: by their names, in the order in which a call gets them.

    Raises:
        UserError: the library has no such operator, or other inputs or outputs.
    """
    table, given = argument_table(), takes.split(", ")
    signature = table.signature(name)
    inputs, inferred = signature.inputs, table.in_order(name, signature.outputs, outputs)
    sources = table.in_order(name, inputs, dict(zip(given, range(len(given)))))

    def shapes_of(*shapes: list[int]) -> Any:
        named = dict(zip(inputs, shapes))
        found = tuple(output.shape(named) for output in inferred)
        return found if len(found) > 1 else found[0]

    def dtypes_of(*dtypes: Any) -> Any:
        named = dict(zip(inputs, dtypes))
        found = tuple(named[output.dtype] if isinstance(output.dtype, str) else output.dtype for output in inferred)
        return found if len(found) > 1 else found[0]

    operator = custom(name, f"MindCoder{name}", inputs, signature.outputs, shapes_of, dtypes_of)
    return in_its_order(operator, sources, [signature.outputs.index(item) for item in outputs])


def in_its_order(operator: ops.Custom, sources: list[int], places: list[int]) -> Any:
    """``operator`` for those who give its inputs or want its outputs in another order.

    If the order is the same it is the operator itself: graphs with a function around each compile four times as long.

    Args:
        sources: where each input of the operator is among those given.
        places: where each output wanted is among the operator's.
    """
    same = sources == list(range(len(sources))) and places == list(range(len(places)))
    return operator if same else Reordered(operator, tuple(sources), tuple(places))


@ms.jit_class
class Reordered:
    """See `in_its_order`."""

    def __init__(self, operator: ops.Custom, sources: tuple[int, ...], places: tuple[int, ...]) -> None:
        self.operator, self.sources, self.places = operator, sources, places

    def __call__(self, *given: Tensor) -> Any:
        values: tuple = ()
        for source in self.sources:
            values = values + (given[source],)
        found = self.operator(*values)
        if len(self.places) == 1:
            return found
        results: tuple = ()
        for place in self.places:
            results = results + (found[place],)
        return results


def custom(
    function: str, registered: str, inputs: tuple, outputs: tuple, shapes: Callable, dtypes: Callable
) -> ops.Custom:
    """The C function ``function`` of the library.

    Args:
        registered: MindSpore keeps one list of inputs for such a name.
        inputs, outputs: names, in order.
        shapes, dtypes: of the outputs, from those of the inputs.
    """
    described = CustomRegOp(registered)
    for index, name in enumerate(inputs):
        described = described.input(index, name)
    for index, name in enumerate(outputs):
        described = described.output(index, name)
    described = described.dtype_format(*[DataType.None_None] * (len(inputs) + len(outputs))).target("CPU")
    return ops.Custom(f"{LIBRARY}:{function}", shapes, dtypes, func_type="aot", reg_info=described.get_op_info())
