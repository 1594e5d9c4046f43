"""Linear layers in NF4: products, gradients, generation, adapters and shards are those of the codes' numbers."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from families import VOCAB
from input_gradients import InputGradients, WeightedSum
from mindspore import Tensor
from quantized import quantized_and_float

from mindcoder.backend.nf4 import NestedScales, pack_codes, to_codes, to_numbers
from mindcoder.backend.nf4_operators import Nf4Floats
from mindcoder.backend.operators import GeluTanh, SwiGLU
from mindcoder.checkpoint.adapter import Adapter, Update
from mindcoder.checkpoint.load import load_weights
from mindcoder.errors import UserError
from mindcoder.families.parameter_names import ABSMAX, NESTED_ABSMAX, NESTED_OFFSET
from mindcoder.generate.engine import Engine
from mindcoder.models.decoder import Decoder
from mindcoder.models.initializer import Initializer
from mindcoder.models.linear import Linear
from mindcoder.models.methods.nf4 import Nf4
from mindcoder.models.tensor_parallel import NoTensorParallel
from mindcoder.parallel.tensor_parallel import TensorParallel
from mindcoder.peft.lora import add_lora
from mindcoder.peft.options import LoraOptions

INPUTS, OUTPUTS = 192, 70  # 210 blocks: less than 256
NF4 = {"method": "nf4"}
SIZES = {
    "gpt_bigcode": {"n_embd": 128, "n_inner": 256},
    "starcoder2": {"hidden_size": 128, "intermediate_size": 256},
    "llama": {"hidden_size": 128, "intermediate_size": 256},
}


def random_method(rng, outputs: int, nested: bool) -> tuple[Nf4, np.ndarray]:
    """A random weight in NF4, and its numbers."""
    codes, absmax = to_codes((rng.standard_normal((outputs, INPUTS)) * 0.3).astype(np.float32).reshape(outputs, -1, 64))
    packed, scales, above = pack_codes(codes.reshape(outputs, -1)), absmax, (None, None)
    if nested:
        found = NestedScales.of(absmax)
        scales, above = found.numbers, (Tensor(found.absmax), Tensor(np.array([found.offset])))
        absmax = found.expanded()
    numbers = (to_numbers(packed).reshape(outputs, -1, 64) * absmax[:, :, None]).reshape(outputs, -1)
    return Nf4(Tensor(packed), Tensor(scales), *above, "float32"), numbers


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("outputs", [OUTPUTS, 256, 7])
@pytest.mark.parametrize(
    "tokens, activation, inputs", [(5, None, 1), (40, GeluTanh, 1), (5, SwiGLU, 2), (40, SwiGLU, 2)]
)
def test_a_layer_has_product_and_gradients_of_its_numbers(nested, outputs, tokens, activation, inputs, rng):
    fused = None if activation is None else activation()
    coded, plain = (
        Linear(INPUTS, outputs, Initializer(3, 0.5), "float32", "float32", activation=fused) for _ in range(2)
    )
    method, numbers = random_method(rng, outputs, nested)
    coded.use(method)
    np.testing.assert_array_equal(coded.method.matrix().asnumpy(), numbers)
    plain.weight.set_data(Tensor(numbers))
    given = [Tensor(rng.standard_normal((tokens, INPUTS)).astype(np.float32)) for _ in range(inputs)]
    weights = Tensor(rng.standard_normal((tokens, outputs)).astype(np.float32))
    (ours, gradients), (theirs, expected) = (
        InputGradients(WeightedSum(linear, weights), inputs)(*given) for linear in (coded, plain)
    )
    np.testing.assert_allclose(ours.asnumpy(), theirs.asnumpy(), rtol=1e-5, atol=1e-3)  # a sum of many numbers
    for gradient, wanted in [(gradients, expected)] if inputs == 1 else zip(gradients, expected):
        np.testing.assert_allclose(gradient.asnumpy(), wanted.asnumpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("nested", [True, False])
def test_the_operators_of_every_device_give_the_same_numbers(nested, rng):
    method, numbers = random_method(rng, OUTPUTS, nested)
    floats = Nf4Floats((OUTPUTS, INPUTS, INPUTS // 64), "float32", nested)
    operands = [item if isinstance(item, Tensor) else item.value() for item in method.operands(Tensor(0, ms.int32))]
    np.testing.assert_array_equal(floats(*operands).asnumpy(), numbers)


def linear_numbers(linear) -> np.ndarray:
    """A layer's weight by the formula, with numpy."""
    absmax = getattr(linear, ABSMAX).asnumpy()
    if absmax.dtype == np.uint8:
        nested = getattr(linear, NESTED_ABSMAX).asnumpy(), getattr(linear, NESTED_OFFSET).asnumpy()[0]
        absmax = NestedScales(absmax, *nested).expanded()
    numbers = to_numbers(linear.weight.asnumpy()).reshape(*absmax.shape, -1)
    return (numbers * absmax[:, :, None]).reshape(len(absmax), -1)


def greedy(decoder: Decoder, prompts, adapters=None) -> list[list[int]]:
    """Greedy tokens, of an adapter if there is one."""
    engine = Engine(decoder, 2, 96, (), VOCAB, adapters=adapters)
    answers: list = []
    for answers, _ in engine.stream(prompts, max_new_tokens=40, adapters=adapters and [*adapters, None]):
        pass
    return [item.tokens for item in answers]


@pytest.mark.parametrize("family", SIZES)
def test_logits_and_tokens_are_those_of_the_numbers(family, hf_folder, tmp_path, rng):
    _, _, folder = hf_folder(family, layers=2, **SIZES[family])
    coded, plain = quantized_and_float(folder, tmp_path / "nf4", **NF4)
    for name, linear in coded.linears().items():
        # query, key and value of GPT-BigCode are parts of one matrix
        nested = family != "gpt_bigcode" or not name.endswith(("query", "key", "value"))
        parts = ("weight", ABSMAX, NESTED_ABSMAX, NESTED_OFFSET) if nested else ("weight", ABSMAX)
        assert [item.name for item in linear.method.get_parameters()] == [f"{name}.{part}" for part in parts]
        np.testing.assert_array_equal(linear_numbers(linear), plain.linears()[name].weight.asnumpy())
    prompts = [rng.integers(1, VOCAB, size).tolist() for size in (21, 6)]
    assert greedy(coded, prompts) == greedy(plain, prompts)
    load_weights(coded, tmp_path / "nf4")  # again, in place
    assert greedy(coded, prompts) == greedy(plain, prompts)


def test_an_adapter_beside_codes_answers_as_on_their_numbers(hf_folder, tmp_path, rng):
    _, _, folder = hf_folder("llama", layers=1, **SIZES["llama"])
    coded, plain = quantized_and_float(folder, tmp_path / "nf4", **NF4)
    updates = {}
    for name, linear in plain.linears().items():
        a, b = (rng.standard_normal(shape).astype(np.float32) * 0.1 for shape in (
            (3, linear.in_features), (linear.out_features, 3)))  # fmt: skip
        updates[name] = Update(a, b, 2.0)
    adapters = {"first": Adapter(folder, "", updates)}
    prompts = [rng.integers(1, VOCAB, size).tolist() for size in (21, 6)]
    assert greedy(coded, prompts, adapters) == greedy(plain, prompts, adapters)


class OneOfTwo(NoTensorParallel):
    """One of two ranks, without any communication."""

    size = 2
    local = TensorParallel.local

    def __init__(self, index: int) -> None:
        self.index = index


@pytest.mark.parametrize("family", SIZES)
def test_shards_of_codes_are_shards_of_their_numbers(family, hf_folder, tmp_path):
    _, _, folder = hf_folder(family, layers=1, **SIZES[family])
    whole, _ = quantized_and_float(folder, tmp_path / "nf4", **NF4)
    for index in range(2):
        shard = Decoder(whole.config, empty=True, tp=OneOfTwo(index))
        load_weights(shard, tmp_path / "nf4")
        for name, linear in shard.linears().items():
            values, axis = linear_numbers(whole.linears()[name]), linear.shard.value
            expected = values if axis is None else np.split(values, 2, axis)[index]
            np.testing.assert_array_equal(linear_numbers(linear), expected)
            assert expected.shape == (linear.out_features, linear.in_features)


def test_what_is_kept_otherwise_is_refused(hf_folder, tmp_path):
    _, plain, folder = hf_folder("llama", layers=1, **SIZES["llama"])
    coded, _ = quantized_and_float(folder, tmp_path / "nf4", **NF4)
    with pytest.raises(UserError, match="kept in NF4, which the checkpoint does not have"):
        load_weights(coded, folder)
    add_lora(plain, LoraOptions(rank=2), 3)
    with pytest.raises(UserError, match="kept in floating point, the checkpoint's weight is in integers"):
        load_weights(plain, tmp_path / "nf4")
    shard = Decoder(coded.config, empty=True, tp=OneOfTwo(0))
    _, _, narrow = hf_folder("llama", layers=1, hidden_size=64, intermediate_size=192)
    config = quantized_and_float(narrow, tmp_path / "narrow", **NF4)[0].config
    shard = Decoder(config, empty=True, tp=OneOfTwo(0))
    with pytest.raises(UserError, match=r"weight_absmax: 3 groups of inputs cannot be divided over 2 ranks"):
        load_weights(shard, tmp_path / "narrow")
