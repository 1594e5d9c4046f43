"""The operator of `mindcoder/native` that does the work of a whole step of generation.

One operator does the work of a step, because a decode step of small operators spends its time between them: a
MindSpore operator costs 7 us alone and 35 us while worker threads are busy, and a layer of them has dozens.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mindspore as ms

from mindcoder.backend.library import LIBRARY, argument_table
from mindcoder.backend.native_operator import custom, in_its_order

SWITCH = "MINDCODER_NATIVE"  # 0 leaves the library alone
SOME = ("AdapterWeights", "QuantizedWeights", "CacheScales")  # what layers of some networks have, see operators.def


def native_available() -> bool:
    """Whether this process computes on CPU with the library built and not switched off."""
    if ms.get_context("device_target") != "CPU" or os.environ.get(SWITCH) == "0":
        return False
    return LIBRARY.is_file()


def knows_groups(inputs: int, groups: int) -> bool:
    """Whether the products with integers know so many groups of an output's inputs (`knows_groups` of linear.h)."""
    return groups == 1 or inputs % groups == 0 and inputs // groups % 32 == 0


def step_numbers(name: str, given: Mapping[str, Any]) -> list[Any]:
    """The numbers of an input of ``MindCoderStep``, in the library's order.

    Args:
        name: StepSizes or StepFactors, see `mindcoder/native/operators.def`.
        given: the numbers by their names.
    """
    table = argument_table()
    return table.in_order(name, table.names(name), given)


def step_weights(step: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]) -> list[Any]:
    """All weights in the library's order, as `step_operator` takes them.

    Args:
        step: those of the whole network, by the names of StepWeights.
        layers: those of each layer, by the names of LayerInputs, and of `SOME` where there are any.
    """
    table = argument_table()
    ordered = table.in_order("StepWeights", table.names("StepWeights"), step)
    for layer in layers:
        own = table.names("LayerInputs")
        for some in SOME:
            own += () if layer.keys().isdisjoint(table.names(some)) else table.names(some)
        ordered += table.in_order("LayerInputs", own, layer)
    return ordered


def step_operator(
    takes: tuple[str, ...],
    layers: int,
    infer_shape: Callable[[dict[str, list[int]]], list[int]],
    adapted: bool = False,
    quantized: bool = False,
    int8_cache: bool = False,
) -> Any:
    """``MindCoderStep``: called with what it takes and then the weights, it gives logits or hidden states, float32.

    Writes the step's keys and values into the pools among the weights.

    Args:
        takes: the names of StepInputs in the order in which a call gives them.
        layers: of the network or stage.
        infer_shape: the result's shape from those of StepInputs, by their names.
        adapted: whether the network has adapters.
        quantized: whether it has weights of integers.
        int8_cache: whether the pools are int8, with scales.
    """
    table = argument_table()
    inputs = table.names("StepInputs")
    sources = table.in_order("StepInputs", inputs, dict(zip(takes, range(len(takes)))))
    of_a_layer = table.names("LayerInputs")
    some = [name for name, has in zip(SOME, (adapted, quantized, int8_cache)) if has]
    for name in some:
        of_a_layer += table.names(name)
    weights = [*table.names("StepWeights"), *(f"{name}_{layer}" for layer in range(layers) for name in of_a_layer)]
    operator = custom(
        "MindCoderStep",
        f"MindCoderStep{layers}{''.join(some)}",  # one list of inputs for each name
        (*inputs, *weights),
        ("result",),
        lambda *shapes: infer_shape(dict(zip(inputs, shapes))),
        lambda *dtypes: dtypes[inputs.index("factors")],
    )
    return in_its_order(operator, [*sources, *range(len(inputs), len(inputs) + len(weights))], [0])
