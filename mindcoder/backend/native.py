"""The CPU operators of `mindcoder/native`: where their library is, and the MindSpore operators that call it.

One operator does the work of all layers, because a decode step of small operators spends its time between them: a
MindSpore operator costs 7 us alone and 35 us beside a team of threads, and a layer of them has dozens.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from mindspore import ops
from mindspore.ops import CustomRegOp, DataType

LIBRARY = Path(__file__).parent.parent / "native" / "libmindcoder_cpu.so"
SWITCH = "MINDCODER_NATIVE"  # 0 leaves the library alone

# Inputs in the order in which native/operators.cpp numbers them. A vector of one number stands for "has none".
STEP_INPUTS = ("rows", "places", "tables", "angles", "counts", "sizes", "factors")
LAYER_INPUTS = (
    "norm_weight", "norm_bias", "query", "query_bias", "key", "key_bias", "value", "value_bias",
    "output", "output_bias", "key_pool", "value_pool",
    "mlp_norm_weight", "mlp_norm_bias", "gate", "gate_bias", "up", "up_bias", "down", "down_bias",
)  # fmt: skip
HEAD_INPUTS = ("rows", "norm_weight", "norm_bias", "head", "chosen", "counts", "factors")


def native_available() -> bool:
    """Whether this process computes on CPU with the library built and not switched off."""
    import mindspore as ms

    if ms.get_context("device_target") != "CPU" or os.environ.get(SWITCH) == "0":
        return False
    return LIBRARY.is_file()


def layers_operator(layers: int) -> ops.Custom:
    """``MindCoderLayers``: `STEP_INPUTS`, then `LAYER_INPUTS` of each layer -> rows float32 ``[T, H]``.

    Writes the step's keys and values into the pools.
    """
    inputs = [*STEP_INPUTS, *(f"{name}_{layer}" for layer in range(layers) for name in LAYER_INPUTS)]
    return _operator("MindCoderLayers", inputs, lambda *shapes: shapes[0])


def head_operator(vocab_size: int) -> ops.Custom:
    """``MindCoderHead``: rows float32 ``[T, H]`` and `HEAD_INPUTS` -> logits float32 ``[R, vocab_size]``."""
    chosen = HEAD_INPUTS.index("chosen")
    return _operator("MindCoderHead", HEAD_INPUTS, lambda *shapes: [shapes[chosen][0], vocab_size])


def _operator(name: str, inputs: Sequence[str], infer_shape: Callable) -> ops.Custom:
    described = CustomRegOp(name)
    for index, given in enumerate(inputs):
        described = described.input(index, given)
    described = described.output(0, "result").dtype_format(*[DataType.None_None] * (len(inputs) + 1)).target("CPU")
    return ops.Custom(
        f"{LIBRARY}:{name}",
        infer_shape,
        lambda *dtypes: dtypes[0],
        func_type="aot",
        reg_info=described.get_op_info(),
    )
