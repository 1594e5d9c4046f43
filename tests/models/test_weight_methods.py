"""The seam between a linear layer and how its weight is kept, proved with a method that is one file of the tests."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from families import VOCAB, one_batch
from input_gradients import InputGradients, WeightedSum
from int8_method import Int8, dequantize, quantize, to_int8
from mindspore import Tensor

from mindcoder.backend.operators import GeluTanh, SwiGLU
from mindcoder.checkpoint.adapter import Adapter, Update
from mindcoder.checkpoint.load import load_weights
from mindcoder.generate.engine import Engine
from mindcoder.generate.operator_decoder import OperatorDecoder
from mindcoder.models.decoder import Decoder
from mindcoder.models.initializer import Initializer
from mindcoder.models.linear import Linear
from mindcoder.models.tensor_parallel import NoTensorParallel, linear_shard, shard_axis
from mindcoder.parallel.tensor_parallel import TensorParallel
from mindcoder.peft.lora import add_lora
from mindcoder.peft.options import LoraOptions
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.step import MicroBatch, TrainStep

TOKENS, INPUTS, OUTPUTS = 5, 12, 7


@pytest.mark.parametrize("activation, inputs", [(None, 1), (GeluTanh, 1), (SwiGLU, 2)])
def test_a_layer_of_int8_has_the_gradients_of_its_dequantized_weight(activation, inputs, rng):
    fused = None if activation is None else activation()
    quantized, plain = (
        Linear(INPUTS, OUTPUTS, Initializer(3, 0.5), "float32", "float32", activation=fused) for _ in range(2)
    )
    quantized.use(Int8(quantized.method))
    plain.weight.set_data(quantized.method.matrix())
    given = [Tensor(rng.standard_normal((TOKENS, INPUTS)).astype(np.float32)) for _ in range(inputs)]
    weights = Tensor(rng.standard_normal((TOKENS, OUTPUTS)).astype(np.float32))
    results = [InputGradients(WeightedSum(linear, weights), inputs)(*given) for linear in (quantized, plain)]
    for (ours, gradients), (theirs, expected) in [results]:
        np.testing.assert_allclose(ours.asnumpy(), theirs.asnumpy(), rtol=1e-5)
        pairs = [(gradients, expected)] if inputs == 1 else list(zip(gradients, expected))
        for gradient, wanted in pairs:
            np.testing.assert_allclose(gradient.asnumpy(), wanted.asnumpy(), rtol=1e-5, atol=1e-6)


def losses(decoder: Decoder, rng, steps: int) -> list[float]:
    """Of some steps on one batch."""
    decoder.set_train(True)
    trained = ms.ParameterTuple(decoder.trainable_params())
    step = TrainStep(decoder, AdamW(trained, AdamWOptions(0.9, 0.95, 1e-6, 0.0)), max_grad_norm=1.0)
    batch = MicroBatch(*one_batch(rng)[2], Tensor(0, ms.int32), Tensor(1.0, ms.float32))
    return [step.run([batch], 1e-2, 1.0)[0] for _ in range(steps)]


def train_norms(decoder: Decoder) -> None:
    """Freeze everything but the norms."""
    decoder.freeze()
    for parameter in decoder.get_parameters():
        parameter.requires_grad = "norm" in parameter.name


def train_lora(decoder: Decoder) -> None:
    """Freeze the network and add a low-rank update to every linear layer."""
    add_lora(decoder, LoraOptions(rank=4, target_modules=(".*",)), 3)


@pytest.mark.parametrize("recipe", [train_lora, train_norms])
@pytest.mark.parametrize("family", ["llama", "gpt_bigcode"])
def test_training_on_an_int8_base_follows_the_dequantized_one(family, recipe, hf_folder, rng):
    _, quantized, folder = hf_folder(family)
    plain = Decoder(quantized.config, empty=True)
    load_weights(plain, folder)
    to_int8(quantized)
    dequantize(plain)
    kept = {name: linear.method for name, linear in quantized.linears().items()}
    before = {name: (item.weight.asnumpy().copy(), item.scale.asnumpy().copy()) for name, item in kept.items()}
    curves = []
    for decoder in (quantized, plain):
        recipe(decoder)
        curves.append(losses(decoder, np.random.default_rng(7), 8))
    assert curves[0][-1] < curves[0][0] - 0.2
    np.testing.assert_allclose(curves[0], curves[1], rtol=2e-4)
    for name, item in kept.items():
        weight, scale = before[name]
        assert item.weight.dtype == ms.int8 and (item.weight.asnumpy() == weight).all()
        assert (item.scale.asnumpy() == scale).all()
        assert item.weight.name == f"{name}.weight" and item.scale.name == f"{name}.scale"


def greedy(decoder: Decoder, prompts, adapters=None) -> tuple[Engine, list[list[int]]]:
    """Greedy tokens, of an adapter if there are any."""
    engine = Engine(decoder, 2, 96, (), VOCAB, adapters=adapters)
    answers: list = []
    for answers, _ in engine.stream(prompts, max_new_tokens=40, adapters=adapters and [*adapters, None]):
        pass
    return engine, [item.tokens for item in answers]


@pytest.mark.parametrize("adapted", [False, True])
def test_generation_with_int8_weights_is_that_of_the_dequantized_model(adapted, hf_folder, rng):
    _, quantized, folder = hf_folder("llama", layers=1)
    plain = Decoder(quantized.config, empty=True)
    load_weights(plain, folder)
    to_int8(quantized)
    dequantize(plain)
    prompts = [rng.integers(1, VOCAB, size).tolist() for size in (21, 6)]
    adapters = None
    if adapted:
        updates = {
            name: Update(
                rng.standard_normal((3, inputs)).astype(np.float32) * 0.1,
                rng.standard_normal((outputs, 3)).astype(np.float32) * 0.1,
                2.0,
            )
            for name, (outputs, inputs) in (
                (name, linear.weight.shape) for name, linear in plain.linears().items() if ".mlp." in name
            )
        }
        adapters = {"first": Adapter(folder, "", updates)}
    engine, tokens = greedy(quantized, prompts, adapters)
    assert isinstance(engine.runner.network, OperatorDecoder)  # the C++ operators do not know the method
    assert tokens == greedy(plain, prompts, adapters)[1]


def test_a_method_loads_a_checkpoint_its_own_way(hf_folder):
    _, plain, folder = hf_folder("starcoder2")
    quantized = Decoder(plain.config, empty=True)
    to_int8(quantized)
    load_weights(quantized, folder)
    for name, linear in quantized.linears().items():
        weight, scale = quantize(plain.linears()[name].weight.asnumpy())
        assert (linear.weight.asnumpy() == weight).all() and (linear.scale.asnumpy() == scale).all()
    others = {item.name: item for item in quantized.get_parameters() if item.dtype != ms.int8}
    for item in plain.get_parameters():
        if item.name in others:
            assert (others[item.name].asnumpy() == item.asnumpy()).all(), item.name


class FirstOfTwo(NoTensorParallel):
    """The first of two ranks, without any communication."""

    size = 2
    local = TensorParallel.local


@pytest.mark.parametrize("overrides", [{}, {"multi_query": True}])
@pytest.mark.parametrize("tp", [NoTensorParallel(), FirstOfTwo()])
def test_layers_state_the_sharding_that_plans_and_checkpoints_assume(tp, overrides, hf_folder):
    _, whole, _ = hf_folder("gpt_bigcode", **overrides) if overrides else hf_folder("llama")
    decoder = Decoder(whole.config, empty=True, tp=tp)
    for name, linear in decoder.linears().items():
        module = name.removeprefix("layers.").partition(".")[2]
        assert linear.shard is linear_shard(module, whole.config, tp.size), name
    shapes = whole.config.parameter_shapes()
    for parameter in decoder.get_parameters():
        axis, shape = shard_axis(parameter.name, whole.config, tp.size), list(shapes[parameter.name])
        if axis is not None:
            shape[axis] //= tp.size
        assert list(parameter.shape) == shape, parameter.name
