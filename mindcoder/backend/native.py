"""The operator of `mindcoder/native` that does the work of a whole step of generation.

One operator does the work of a step, because a decode step of small operators spends its time between them: a
MindSpore operator costs 7 us alone and 35 us beside a team of threads, and a layer of them has dozens.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from mindspore import ops
from mindspore.ops import CustomRegOp, DataType

from mindcoder.backend.library import LIBRARY

SWITCH = "MINDCODER_NATIVE"  # 0 leaves the library alone

# Inputs in the order in which native/operators.cpp numbers them. A vector of one number stands for "has none".
STEP_INPUTS = (
    "inputs", "mapping", "block_tables", "angles", "logits_indices", "counts", "sizes", "factors", "shares",
    "token_table", "position_table", "final_weight", "final_bias", "head",
)  # fmt: skip
LAYER_INPUTS = (
    "norm_weight", "norm_bias", "query", "query_bias", "key", "key_bias", "value", "value_bias",
    "output", "output_bias", "key_pool", "value_pool",
    "mlp_norm_weight", "mlp_norm_bias", "gate", "gate_bias", "up", "up_bias", "down", "down_bias",
)  # fmt: skip
ADAPTER_INPUTS = tuple(
    f"{linear}_{matrix}" for linear in ("query", "key", "value", "output", "gate", "up", "down") for matrix in "ab"
)


def native_available() -> bool:
    """Whether this process computes on CPU with the library built and not switched off."""
    import mindspore as ms

    if ms.get_context("device_target") != "CPU" or os.environ.get(SWITCH) == "0":
        return False
    return LIBRARY.is_file()


def step_operator(layers: int, infer_shape: Callable, adapted: bool = False) -> ops.Custom:
    """``MindCoderStep``: `STEP_INPUTS`, then `LAYER_INPUTS` of each layer (and `ADAPTER_INPUTS`, where there are any)
    -> logits or hidden states, float32.

    Writes the step's keys and values into the pools.

    Args:
        layers: of the network or stage.
        infer_shape: the result's shape from those of the inputs.
        adapted: whether the network has adapters.
    """
    of_a_layer = LAYER_INPUTS + ADAPTER_INPUTS if adapted else LAYER_INPUTS
    inputs = [*STEP_INPUTS, *(f"{name}_{layer}" for layer in range(layers) for name in of_a_layer)]
    described = CustomRegOp(
        f"MindCoderStep{layers}{'Adapted' if adapted else ''}"
    )  # MindSpore keeps one list of inputs for a name
    for index, item in enumerate(inputs):
        described = described.input(index, item)
    described = described.output(0, "result").dtype_format(*[DataType.None_None] * (len(inputs) + 1)).target("CPU")
    factors = STEP_INPUTS.index("factors")
    return ops.Custom(
        f"{LIBRARY}:MindCoderStep",
        infer_shape,
        lambda *dtypes: dtypes[factors],
        func_type="aot",
        reg_info=described.get_op_info(),
    )
