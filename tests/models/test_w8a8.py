"""Linear layers whose weight and activations are 8-bit integers: products, gradients, generation, adapters, shards."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from families import BATCH, LENGTH, VOCAB, long_but, one_batch
from input_gradients import InputGradients, WeightedSum
from mindspore import Tensor
from quantized import WIDE, numbers, quantized_and_float

from mindcoder.backend.operators import GeluTanh, SwiGLU
from mindcoder.checkpoint.adapter import Adapter, Update
from mindcoder.checkpoint.load import load_weights
from mindcoder.errors import UserError
from mindcoder.families.parameter_names import INPUT, OFFSET, SCALE
from mindcoder.generate.engine import Engine
from mindcoder.generate.native_decoder import NativeDecoder
from mindcoder.generate.operator_decoder import OperatorDecoder
from mindcoder.generate.speculative import SpeculativeDecoder
from mindcoder.models.decoder import Decoder
from mindcoder.models.initializer import Initializer
from mindcoder.models.linear import Linear
from mindcoder.models.methods.w8a8 import STATIC, W8A8
from mindcoder.models.tensor_parallel import NoTensorParallel
from mindcoder.parallel.tensor_parallel import TensorParallel
from mindcoder.peft.lora import add_lora
from mindcoder.peft.options import LoraOptions
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.step import MicroBatch, TrainStep

TOKENS, INPUTS, OUTPUTS = 5, 192, 7
ROUNDINGS = {"dynamic": (0.0, 0.0), "static": (0.04, -11.0)}
OPTIONS = {"method": "w8a8"}


def random_method(rng, rounding: str, compute_dtype: str = "float32") -> W8A8:
    """Random integers and scales."""
    weight = rng.integers(-128, 128, (OUTPUTS, INPUTS)).astype(np.int8)
    scale = (rng.random((OUTPUTS, 1)) / 128 + 0.01).astype(np.float32)
    return W8A8(weight, scale, np.array(ROUNDINGS[rounding], np.float32), compute_dtype)


def layer(activation=None) -> Linear:
    """A small layer."""
    return Linear(INPUTS, OUTPUTS, Initializer(3, 0.5), "float32", "float32", activation=activation)


def rounded(x: np.ndarray, rounding: str) -> np.ndarray:
    """The floats that the integers of activations stand for, with numpy."""
    scale, offset = map(np.float32, ROUNDINGS[rounding])
    if scale == 0:
        own = np.abs(x).max(1, keepdims=True) / np.float32(127)
        return np.rint(x / own) * own
    return (np.rint(np.clip(x * (np.float32(1) / scale) + offset, -128, 127)) - offset) * scale


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("activation, inputs", [(None, 1), (GeluTanh, 1), (SwiGLU, 2)])
def test_product_of_rounded_activations_and_gradient_of_plain_ones(rounding, activation, inputs, rng):
    fused = None if activation is None else activation()
    quantized, plain = layer(fused), layer(fused)
    quantized.use(random_method(rng, rounding))
    plain.weight.set_data(Tensor(numbers(quantized)))
    np.testing.assert_array_equal(quantized.method.matrix().asnumpy(), numbers(quantized))
    given = [Tensor(rng.standard_normal((TOKENS, INPUTS)).astype(np.float32)) for _ in range(inputs)]
    weights = Tensor(rng.standard_normal((TOKENS, OUTPUTS)).astype(np.float32))
    (_, gradients), (_, expected) = (
        InputGradients(WeightedSum(linear, weights), inputs)(*given) for linear in (quantized, plain)
    )
    for gradient, wanted in [(gradients, expected)] if inputs == 1 else zip(gradients, expected):
        np.testing.assert_allclose(gradient.asnumpy(), wanted.asnumpy(), rtol=1e-5, atol=1e-5)
    multiplied = given[0] if fused is None else fused(*given)
    wanted = rounded(multiplied.asnumpy(), rounding) @ numbers(quantized).T + quantized.bias.asnumpy()
    np.testing.assert_allclose(quantized(*given).asnumpy(), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("dtype, tolerance", [("float16", 2e-3), ("bfloat16", 1e-5)])  # bfloat16 is float32 on CPU
def test_other_dtypes(rounding, dtype, tolerance, rng):
    method = random_method(rng, rounding, dtype)
    x = Tensor(rng.standard_normal((40, INPUTS)).astype(np.float32)).astype(method.product.dtype)
    found = method.multiply(x, method.operands(Tensor(0, ms.int32)))
    assert found.dtype == method.product.dtype
    wanted = (
        rounded(x.astype(ms.float32).asnumpy(), rounding)
        @ (method.weight.asnumpy().astype(np.float32) * method.weight_scale.asnumpy()).T
    )
    assert np.abs(found.astype(ms.float32).asnumpy() - wanted).max() < tolerance * np.abs(wanted).max()


def logits(decoder: Decoder, rng) -> np.ndarray:
    """Of a random batch."""
    decoder.set_train(False)
    hidden = decoder(*one_batch(rng)[2][:3], Tensor(0, ms.int32))
    return decoder.logits(hidden).asnumpy().reshape(BATCH, LENGTH, -1)


def make_static(decoder: Decoder) -> None:
    """Give every layer of integers the same rounding, with an offset."""
    for linear in decoder.linears().values():
        own = linear.method
        rounding = np.array([0.05, 3], np.float32)
        linear.use(W8A8(own.weight.asnumpy(), own.weight_scale.asnumpy(), rounding, own.compute_dtype))


def greedy(decoder: Decoder, prompts, adapters=None) -> list[list[int]]:
    """Greedy tokens, of an adapter and of the base model if there are any adapters."""
    engine = Engine(decoder, 2, 96, (), VOCAB, adapters=adapters)
    answers: list = []
    for answers, _ in engine.stream(prompts, max_new_tokens=30, adapters=adapters and [*adapters, None]):
        pass
    return [item.tokens for item in answers]


PATHS = [
    pytest.param(family, static, id=f"{family}-{'static' if static else 'dynamic'}")
    for family in ("llama", "gpt_bigcode")
    for static in (False, True)
]


@pytest.mark.parametrize("family, static", long_but(PATHS, 0))
def test_every_path_gives_the_same_tokens(family, static, hf_folder, tmp_path, rng, monkeypatch):
    """The C++ step, the operators, a batch of one, speculation; and the network's logits are near the float ones."""
    _, plain, folder = hf_folder(family, layers=1, **WIDE[family])
    quantized, _ = quantized_and_float(folder, tmp_path / "quantized", **OPTIONS)
    for name, linear in quantized.linears().items():
        assert isinstance(linear.method, W8A8) and not linear.method.is_static
        assert [item.name for item in linear.method.get_parameters()] == [
            f"{name}.{part}" for part in ("weight", SCALE, INPUT)
        ]
    if static:
        make_static(quantized)
        names = [item.name for item in quantized.get_parameters()]
        assert len(names) == len(set(names)) and f"layers.0.mlp.up.{STATIC[0]}" in names
    else:
        ours, theirs = (logits(decoder, np.random.default_rng(5)) for decoder in (quantized, plain))
        assert 0 < np.abs(ours - theirs).max() < 0.08 * np.abs(theirs).max()
    prompts = [rng.integers(1, VOCAB, size).tolist() for size in (21, 6)]
    engine = Engine(quantized, 2, 96, (), VOCAB)
    tokens = [item.tokens for item in engine.generate(prompts, max_new_tokens=30)]
    assert isinstance(engine.runner.network, NativeDecoder)
    assert greedy(quantized, prompts[:1])[0] == tokens[0]
    speculative = SpeculativeDecoder(quantized, quantized, 96, (), VOCAB)
    assert list(speculative.stream(prompts[0], 30)) == tokens[0] and speculative.acceptance == 1
    monkeypatch.setenv("MINDCODER_NATIVE", "0")
    by_operators = Engine(quantized, 2, 96, (), VOCAB)
    assert isinstance(by_operators.runner.network, OperatorDecoder)
    assert [item.tokens for item in by_operators.generate(prompts, max_new_tokens=30)] == tokens


def test_lora_learns_on_integers(hf_folder, tmp_path):
    _, _, folder = hf_folder("llama", layers=1, **WIDE["llama"])
    decoder, _ = quantized_and_float(folder, tmp_path / "quantized", **OPTIONS)
    before = {name: linear.weight.asnumpy().copy() for name, linear in decoder.linears().items()}
    added = add_lora(decoder, LoraOptions(rank=4, target_modules=(".*",)), 3)
    decoder.set_train(True)
    trained = ms.ParameterTuple(decoder.trainable_params())
    assert {item.name for item in trained} == {item.name for item in added}
    step = TrainStep(decoder, AdamW(trained, AdamWOptions(0.9, 0.95, 1e-6, 0.0)), max_grad_norm=1.0)
    batch = MicroBatch(*one_batch(np.random.default_rng(7))[2], Tensor(0, ms.int32), Tensor(1.0, ms.float32))
    curve = [step.run([batch], 1e-2, 1.0)[0] for _ in range(5)]
    assert curve[-1] < curve[0] - 0.1
    for name, linear in decoder.linears().items():
        assert (linear.weight.asnumpy() == before[name]).all()


def test_adapters_on_integers_answer_the_same_in_every_path(hf_folder, tmp_path, rng, monkeypatch):
    _, _, folder = hf_folder("llama", layers=1, **WIDE["llama"])
    target, updates = tmp_path / "quantized", {}
    quantized, _ = quantized_and_float(folder, target, **OPTIONS)
    for name, linear in quantized.linears().items():
        a, b = (rng.standard_normal(shape).astype(np.float32) * 0.1 for shape in (
            (3, linear.in_features), (linear.out_features, 3)))  # fmt: skip
        updates[name] = Update(a, b, 2.0)
    adapters = {"first": Adapter(folder, "", updates)}
    prompts = [rng.integers(1, VOCAB, size).tolist() for size in (21, 6)]
    tokens = greedy(quantized, prompts, adapters)
    again = Decoder(quantized.config, empty=True)
    load_weights(again, target)
    monkeypatch.setenv("MINDCODER_NATIVE", "0")
    assert greedy(again, prompts, adapters) == tokens
    assert greedy(again, prompts)[0] != tokens[0]


class OneOfTwo(NoTensorParallel):
    """One of two ranks, without any communication."""

    size = 2
    local = TensorParallel.local

    def __init__(self, index: int) -> None:
        self.index = index


@pytest.mark.parametrize("family", ["llama", "gpt_bigcode"])
def test_shards_add_up_to_the_whole(family, hf_folder, tmp_path, rng):
    """Columns of outputs side by side; rows of inputs as partial sums, static to the last bit of float32."""
    _, _, folder = hf_folder(family, layers=1, **WIDE[family])
    target = tmp_path / "quantized"
    whole, _ = quantized_and_float(folder, target, **OPTIONS)
    shards = [Decoder(whole.config, empty=True, tp=OneOfTwo(index)) for index in range(2)]
    for shard in shards:
        load_weights(shard, target)
    for decoder in (whole, *shards):
        make_static(decoder)
    for name, linear in whole.linears().items():
        parts = [shard.linears()[name].method for shard in shards]
        axis = linear.shard.value
        x = rng.standard_normal((4, linear.in_features)).astype(np.float32)
        expected = linear.method.multiply(Tensor(x), linear.method.operands(Tensor(0, ms.int32))).asnumpy()
        given = np.split(x, 2, 1) if axis == 1 else [x, x]
        found = [
            part.multiply(Tensor(np.ascontiguousarray(own)), part.operands(Tensor(0, ms.int32))).asnumpy()
            for part, own in zip(parts, given)
        ]
        if axis == 1:
            joined = found[0] + found[1]
        elif found[0].shape == expected.shape:  # on every rank: the only key and value head of multi-query attention
            joined = found[0]
            np.testing.assert_array_equal(found[1], found[0])
        else:
            joined = np.concatenate(found, 1)
        np.testing.assert_allclose(joined, expected, rtol=1e-6, atol=1e-6)


def test_what_is_kept_and_what_is_loaded_have_to_be_alike(hf_folder, tmp_path):
    _, _, folder = hf_folder("llama", layers=1, **WIDE["llama"])
    quantized, _ = quantized_and_float(folder, tmp_path / "quantized", **OPTIONS)
    load_weights(quantized, tmp_path / "quantized")  # again, in place
    with pytest.raises(UserError, match="kept in integers, which the checkpoint does not have"):
        load_weights(quantized, folder)
    make_static(quantized)
    with pytest.raises(UserError, match="other integers than those of the checkpoint"):
        load_weights(quantized, tmp_path / "quantized")
    weight, scale, offset = np.ones((2, 3), np.int8), np.ones((2, 1)), np.ones((2, 1))
    stored = {"weight": weight, SCALE: scale, INPUT: np.zeros(2), OFFSET: offset}
    with pytest.raises(UserError, match="weights with offsets cannot be multiplied by int8 activations"):
        W8A8.of(stored.get, "float32")
