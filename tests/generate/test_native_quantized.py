"""The C++ step with weights of integers: the logits of the floats that they stand for, and equal bits beside others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from families import VOCAB, long_but
from mindspore import Parameter, Tensor

from mindcoder.backend.native import native_available
from mindcoder.checkpoint.adapter import Adapter, Update
from mindcoder.generate.adapters import add_adapters
from mindcoder.generate.native_decoder import NativeDecoder
from mindcoder.generate.operator_decoder import OperatorDecoder
from mindcoder.generate.paged_decoder import paged_decoder
from mindcoder.generate.runner import Runner, StepInput
from mindcoder.models.decoder import Decoder
from mindcoder.models.methods.base import NativeParameters, WeightMethod

SIZES = {
    "gpt_bigcode": {"n_embd": 96, "n_inner": 224},
    "llama": {"hidden_size": 96, "intermediate_size": 224, "attention_bias": True},
}
LENGTHS = (1, 7, 40, 90)

pytestmark = pytest.mark.skipif(not native_available(), reason="the C++ operators are not built (no compiler)")


class Integers(WeightMethod):
    """Keeps a weight in integers, for the C++ step alone.

    Args:
        base: whose weight it is.
        bits: 8 or 4.
        group: inputs with one scale and offset; None for all of an output.
        lowered: whether there are offsets.
    """

    def __init__(self, base: WeightMethod, bits: int, group: int | None, lowered: bool) -> None:
        super().__init__(base.compute_dtype)
        weight = base.matrix().asnumpy().astype(np.float32)
        groups = weight.reshape(len(weight), -1, group or weight.shape[1])
        low, high, half = groups.min(2), groups.max(2), 2 ** (bits - 1)
        offset = np.zeros_like(low)
        if lowered:
            scale = (high - low) / (2 * half - 1)
            offset = np.round(-half - low / scale)
        else:
            scale = np.abs(groups).max(2) / (half - 1)
        q = np.clip(np.round(groups / scale[..., None]) + offset[..., None], -half, half - 1)
        self.floats = ((q - offset[..., None]) * scale[..., None]).reshape(weight.shape)
        q = q.reshape(weight.shape).astype(np.int8)
        if bits == 4:
            unsigned = (q + 8).astype(np.uint8)
            q = unsigned[:, ::2] | unsigned[:, 1::2] << 4
        self.weight = Parameter(Tensor(q), name="weight", requires_grad=False)
        self.weight_scale = Parameter(Tensor(scale), name="weight_scale", requires_grad=False)
        self.weight_offset = None
        if lowered:
            self.weight_offset = Parameter(Tensor(offset), name="weight_offset", requires_grad=False)

    def layer_parameters(self) -> dict[str, Parameter]:
        named = {"weight": self.weight, "weight_scale": self.weight_scale, "weight_offset": self.weight_offset}
        return {name: parameter for name, parameter in named.items() if parameter is not None}

    def native_parameters(self) -> NativeParameters:
        return NativeParameters(self.weight, self.weight_scale, self.weight_offset)


def both(decoder: Decoder, bits: int, group: int | None, lowered: bool) -> tuple[Decoder, Decoder]:
    """The network with integers in every linear layer, and with the floats that they stand for."""
    floats, integers = (Decoder(decoder.config, empty=True) for _ in range(2))
    for network in (floats, integers):
        for target, source in zip(network.get_parameters(), decoder.get_parameters()):
            target.set_data(source)
    for linear, plain in zip(integers.linears().values(), floats.linears().values()):
        linear.use(Integers(linear.method, bits, group, lowered))
        plain.weight.set_data(Tensor(linear.method.floats))
    return integers, floats


def runner_of(decoder: Decoder, rows: int = len(LENGTHS)) -> Runner:
    runner = Runner(decoder, 64, 16, 256, rows, 160)
    assert isinstance(runner.network, NativeDecoder)
    return runner


def inputs_of(rng) -> list[StepInput]:
    return [
        StepInput(rng.integers(1, VOCAB, length).tolist(), 0, list(range(8 * number + 1, 8 * number + 9)), 1, length)
        for number, length in enumerate(LENGTHS)
    ]


def logits(runner: Runner, inputs: list[StepInput]) -> np.ndarray:
    """Of the prompts' last tokens and of one more each."""
    more = [replace(item, tokens=[5], start=item.prompt) for item in inputs]
    return np.stack([runner.run(inputs), runner.run(more)])


VARIANTS = [
    pytest.param(family, *kept, id=f"{family}-{kept[0]}-{kept[1]}-{kept[2]}")
    for kept in ((8, None, False), (8, 32, True), (4, 32, False), (4, 32, True))
    for family in SIZES
]


@pytest.mark.parametrize("family, bits, group, lowered", long_but(VARIANTS, 0, 7))
def test_logits_equal_those_of_the_floats_they_stand_for(family, bits, group, lowered, hf_folder, rng):
    _, decoder, _ = hf_folder(family, layers=1, **SIZES[family])
    integers, floats = both(decoder, bits, group, lowered)
    inputs = inputs_of(rng)
    together = runner_of(integers)
    found = logits(together, inputs)
    np.testing.assert_allclose(found, logits(runner_of(floats), inputs), rtol=1e-4, atol=1e-4)
    alone = runner_of(integers, rows=1)
    for index, item in enumerate(inputs):
        assert (alone.run([item])[0] == found[0, index]).all()


@pytest.mark.long
def test_an_adapter_beside_integers(hf_folder, rng):
    _, decoder, _ = hf_folder("llama", layers=1, **SIZES["llama"])
    integers, floats = both(decoder, 8, None, False)
    name = next(name for name in integers.linears() if name.endswith("up"))
    linear = integers.linears()[name]
    a, b = rng.standard_normal((4, linear.in_features)), rng.standard_normal((linear.out_features, 4))
    adapter = Adapter(Path(), "", {name: Update(a.astype(np.float32), b.astype(np.float32), 0.1)})
    inputs = [replace(item, adapter=number % 2) for number, item in enumerate(inputs_of(rng))]
    found = []
    for network in (integers, floats):
        adapters = add_adapters(network, {"own": adapter}, 160)
        found.append(logits(Runner(network, 64, 16, 256, len(LENGTHS), 160, adapters=adapters), inputs))
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-4)


def test_groups_that_the_library_does_not_know_go_by_mindspores_operators(hf_folder):
    _, decoder, _ = hf_folder("llama", layers=1, **SIZES["llama"])
    integers, _ = both(decoder, 8, 16, False)
    assert isinstance(paged_decoder(integers, 8, 16), OperatorDecoder)
