"""Linear layers of 8- and 4-bit integers: products, gradients, generation and shards are those of their values."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from families import BATCH, LENGTH, VOCAB, one_batch
from input_gradients import InputGradients, WeightedSum
from mindspore import Tensor
from quantized import W4A16, W4A16_OFFSETS, W8A16, W8A16_GROUPS, WIDE, named, numbers, quantized_and_float

import mindcoder
from mindcoder.backend.operators import GeluTanh, SwiGLU
from mindcoder.checkpoint.adapter import Adapter, Update
from mindcoder.checkpoint.load import load_weights
from mindcoder.checkpoint.quantized.packing import pack_nibbles
from mindcoder.errors import UserError
from mindcoder.families.parameter_names import OFFSET, SCALE
from mindcoder.generate.engine import Engine
from mindcoder.models.decoder import Decoder
from mindcoder.models.initializer import Initializer
from mindcoder.models.linear import Linear
from mindcoder.models.methods.weight_only import WeightOnly
from mindcoder.models.tensor_parallel import NoTensorParallel
from mindcoder.parallel.tensor_parallel import TensorParallel
from mindcoder.peft.lora import add_lora
from mindcoder.peft.options import LoraOptions
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.step import MicroBatch, TrainStep

TOKENS, INPUTS, OUTPUTS = 5, 192, 7


def random_method(rng, bits: int, groups: int, offsets: bool) -> WeightOnly:
    """Random integers, scales and offsets."""
    limit = 1 << (bits - 1)
    weight = rng.integers(-limit, limit, (OUTPUTS, INPUTS)).astype(np.int8)
    scale = (rng.random((OUTPUTS, groups)) / limit + 0.01).astype(np.float32)
    offset = rng.integers(-limit, limit, (OUTPUTS, groups)).astype(np.float32)
    stored = pack_nibbles(weight) if bits == 4 else weight
    return WeightOnly(Tensor(stored), Tensor(scale), Tensor(offset) if offsets else None, "float32")


def layer(activation=None) -> Linear:
    """A small layer."""
    return Linear(INPUTS, OUTPUTS, Initializer(3, 0.5), "float32", "float32", activation=activation)


@pytest.mark.parametrize("bits, groups, offsets", [(8, 1, False), (8, 3, True), (4, 3, False), (4, 2, True)])
@pytest.mark.parametrize("activation, inputs", [(None, 1), (GeluTanh, 1), (SwiGLU, 2)])
def test_a_layer_of_integers_has_product_and_gradients_of_its_values(bits, groups, offsets, activation, inputs, rng):
    fused = None if activation is None else activation()
    quantized, plain = layer(fused), layer(fused)
    quantized.use(random_method(rng, bits, groups, offsets))
    values = numbers(quantized)
    np.testing.assert_array_equal(quantized.method.matrix().asnumpy(), values)
    plain.weight.set_data(Tensor(values))
    given = [Tensor(rng.standard_normal((TOKENS, INPUTS)).astype(np.float32)) for _ in range(inputs)]
    weights = Tensor(rng.standard_normal((TOKENS, OUTPUTS)).astype(np.float32))
    (ours, gradients), (theirs, expected) = (
        InputGradients(WeightedSum(linear, weights), inputs)(*given) for linear in (quantized, plain)
    )
    np.testing.assert_allclose(ours.asnumpy(), theirs.asnumpy(), rtol=1e-5, atol=1e-4)  # a sum of large numbers
    for gradient, wanted in [(gradients, expected)] if inputs == 1 else zip(gradients, expected):
        np.testing.assert_allclose(gradient.asnumpy(), wanted.asnumpy(), rtol=1e-5, atol=1e-6)


def logits(decoder: Decoder, rng) -> np.ndarray:
    """Of a random batch."""
    decoder.set_train(False)
    hidden = decoder(*one_batch(rng)[2][:3], Tensor(0, ms.int32))
    return decoder.logits(hidden).asnumpy().reshape(BATCH, LENGTH, -1)


def greedy(decoder: Decoder, prompts, adapters=None) -> list[list[int]]:
    """Greedy tokens, of an adapter and of the base model if there are any adapters."""
    engine = Engine(decoder, 2, 96, (), VOCAB, adapters=adapters)
    answers: list = []
    for answers, _ in engine.stream(prompts, max_new_tokens=40, adapters=adapters and [*adapters, None]):
        pass
    return [item.tokens for item in answers]


CASES = [
    ("llama", W8A16),
    ("gpt_bigcode", W8A16_GROUPS),
    ("starcoder2", W4A16),
    ("gpt_bigcode", W4A16_OFFSETS),
]


@pytest.mark.parametrize("family, options", CASES, ids=[f"{family}-{named(options)}" for family, options in CASES])
def test_logits_and_tokens_are_those_of_the_values(family, options, hf_folder, tmp_path, rng):
    _, _, folder = hf_folder(family, layers=1, **WIDE[family])
    quantized, plain = quantized_and_float(folder, tmp_path / "quantized", **options)
    for name, linear in quantized.linears().items():
        method = linear.method
        assert isinstance(method, WeightOnly) and method.bits == int(options["method"][1])
        assert (method.offset is None) == options.get("symmetric", True)
        assert [item.name for item in method.get_parameters()] == [
            f"{name}.{part}" for part in ("weight", SCALE, OFFSET)[: 2 + (method.offset is not None)]
        ]
        np.testing.assert_array_equal(numbers(linear), plain.linears()[name].weight.asnumpy())
    np.testing.assert_allclose(
        logits(quantized, np.random.default_rng(5)), logits(plain, np.random.default_rng(5)), atol=1e-5
    )
    prompts = [rng.integers(1, VOCAB, size).tolist() for size in (21, 6)]
    assert greedy(quantized, prompts) == greedy(plain, prompts)


@pytest.mark.parametrize("options", [W8A16, W4A16_OFFSETS], ids=named)
def test_lora_steps_on_integers_are_those_on_their_values(options, hf_folder, tmp_path):
    _, _, folder = hf_folder("llama", layers=1, **WIDE["llama"])
    decoders = quantized_and_float(folder, tmp_path / "quantized", **options)
    before = {name: linear.weight.asnumpy().copy() for name, linear in decoders[0].linears().items()}
    curves, updates = [], []
    for decoder in decoders:
        added = add_lora(decoder, LoraOptions(rank=4, target_modules=(".*",)), 3)
        decoder.set_train(True)
        trained = ms.ParameterTuple(decoder.trainable_params())
        assert {item.name for item in trained} == {item.name for item in added}
        step = TrainStep(decoder, AdamW(trained, AdamWOptions(0.9, 0.95, 1e-6, 0.0)), max_grad_norm=1.0)
        batch = MicroBatch(*one_batch(np.random.default_rng(7))[2], Tensor(0, ms.int32), Tensor(1.0, ms.float32))
        curves.append([step.run([batch], 1e-2, 1.0)[0] for _ in range(5)])
        updates.append({item.name: item.asnumpy() for item in added})
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-5)
    assert curves[0][-1] < curves[0][0] - 0.1
    for name, values in updates[0].items():
        np.testing.assert_allclose(values, updates[1][name], atol=1e-4)
    for name, linear in decoders[0].linears().items():
        assert (linear.weight.asnumpy() == before[name]).all()


def test_adapters_on_integers_answer_as_on_their_values(hf_folder, tmp_path, rng):
    _, _, folder = hf_folder("llama", layers=1, **WIDE["llama"])
    quantized, plain = quantized_and_float(folder, tmp_path / "quantized", **W4A16)
    updates = {}
    for name, linear in plain.linears().items():
        a, b = (rng.standard_normal(shape).astype(np.float32) * 0.1 for shape in (
            (3, linear.in_features), (linear.out_features, 3)))  # fmt: skip
        updates[name] = Update(a, b, 2.0)
    adapters = {"first": Adapter(folder, "", updates)}
    prompts = [rng.integers(1, VOCAB, size).tolist() for size in (21, 6)]
    tokens = greedy(quantized, prompts, adapters)
    assert tokens == greedy(plain, prompts, adapters)
    assert tokens[0] != greedy(plain, prompts)[0]


class OneOfTwo(NoTensorParallel):
    """One of two ranks, without any communication."""

    size = 2
    local = TensorParallel.local

    def __init__(self, index: int) -> None:
        self.index = index


@pytest.mark.parametrize("family, options", CASES, ids=[f"{family}-{named(options)}" for family, options in CASES])
def test_shards_of_integers_are_shards_of_their_values(family, options, hf_folder, tmp_path):
    _, _, folder = hf_folder(family, layers=1, **WIDE[family])
    target = tmp_path / "quantized"
    whole, _ = quantized_and_float(folder, target, **options)
    for index in range(2):
        shard = Decoder(whole.config, empty=True, tp=OneOfTwo(index))
        load_weights(shard, target)
        for name, linear in shard.linears().items():
            values, axis = numbers(whole.linears()[name]), linear.shard.value
            expected = values if axis is None else np.split(values, 2, axis)[index]
            np.testing.assert_array_equal(numbers(linear), expected)
            assert expected.shape == (linear.out_features, linear.in_features)


def test_groups_that_ranks_would_cut_are_refused(hf_folder, tmp_path):
    _, _, folder = hf_folder("llama", layers=1, hidden_size=96, intermediate_size=96)
    mindcoder.quantize(folder, tmp_path / "quantized", method="w4a16", group_size=32, progress=False)
    config = quantized_and_float(folder, tmp_path / "again", method="w8a16")[0].config
    with pytest.raises(UserError, match=r"attention.output.weight_scale: 3 groups of inputs cannot be divided over 2"):
        load_weights(Decoder(config, empty=True, tp=OneOfTwo(0)), tmp_path / "quantized")


def test_integers_and_floats_are_not_mistaken_for_each_other(hf_folder, tmp_path):
    _, plain, folder = hf_folder("llama", layers=1, **WIDE["llama"])
    quantized, _ = quantized_and_float(folder, tmp_path / "quantized", **W8A16)
    with pytest.raises(UserError, match="kept in integers, which the checkpoint does not have"):
        load_weights(quantized, folder)
    four_bits, _ = quantized_and_float(folder, tmp_path / "four", **W4A16)
    with pytest.raises(UserError, match="other integers than those of the checkpoint"):
        load_weights(four_bits, tmp_path / "quantized")
    load_weights(quantized, tmp_path / "quantized")  # again, in place
    add_lora(plain, LoraOptions(rank=2), 3)
    with pytest.raises(UserError, match="kept in floating point, the checkpoint's weight is in integers"):
        load_weights(plain, tmp_path / "quantized")
