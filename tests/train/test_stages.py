"""Two stages of a network, run one after the other in one process, against the whole."""

from __future__ import annotations

from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
from families import VOCAB, Gradients, one_batch
from mindspore import Tensor

from mindcoder.families.registry import family_of
from mindcoder.models.decoder import Decoder
from mindcoder.models.stage import stage_of
from mindcoder.train.gradients import MicroBatchGradients
from mindcoder.train.objectives.registry import default_objective
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.pipeline_step import BackwardStage
from mindcoder.train.recompute import ForwardStage
from mindcoder.train.step import TrainStep
from mindcoder.train.update import Accumulate, gradient_buffers


def network(tied: bool, layers: int):
    family = family_of("gpt_bigcode" if tied else "llama")
    sizes = {"vocab_size": VOCAB, "hidden_size": 32, "num_layers": layers, "num_heads": 4, "intermediate_size": 64}
    config = family.config_from_huggingface(
        {"n_layer": layers, "n_embd": 32, "n_head": 4, "resid_pdrop": 0.1} if tied else {}
    )
    if not tied:
        config = replace(config, head_dim=8, num_kv_heads=2)
    return replace(config, **sizes, embedding_dropout=0.1, attention_dropout=0.1, hidden_dropout=0.1)


def stage_cells(config, sizes: list[int], index: int):
    decoder = Decoder(config, seed=3, stage=stage_of(sizes, index))
    weights = ms.ParameterTuple(decoder.trainable_params())
    gradients = MicroBatchGradients(decoder, weights, default_objective())
    buffers = gradient_buffers(weights)
    backward = BackwardStage(gradients, Accumulate(buffers, gradients.partial))
    backward.set_train(True)
    return decoder, backward, {weight.name: buffer for weight, buffer in zip(weights, buffers)}


@pytest.mark.parametrize(
    "tied, sizes",
    [pytest.param(True, [1, 1], id="gpt_bigcode"),
     pytest.param(True, [2, 1], id="gpt_bigcode, two layers", marks=pytest.mark.long),
     pytest.param(False, [2, 1], id="llama, two layers", marks=pytest.mark.long)],
)  # fmt: skip
def test_two_stages_are_the_whole_network_and_compile_once(tied, sizes, rng):
    config = network(tied, sum(sizes))
    whole = Decoder(config, seed=3)
    step = TrainStep(whole, AdamW(ms.ParameterTuple(whole.trainable_params()), AdamWOptions()))
    step.set_train(True)
    (first, first_back, first_sums), (_, last_back, last_sums) = (stage_cells(config, sizes, index) for index in (0, 1))
    forward = ForwardStage(first)
    forward.set_train(True)
    one, seed = Tensor(1.0, ms.float32), Tensor(7, ms.int32)
    whole_gradients = Gradients(step)
    expected: dict[str, np.ndarray] = {}
    for _ in range(2):  # two micro batches add up
        _, _, (ids, positions, documents, labels) = one_batch(rng)
        loss, grads = whole_gradients(ids, positions, documents, labels, seed, one)
        for weight, gradient in zip(step.weights, grads):
            expected[weight.name] = expected.get(weight.name, 0) + gradient.asnumpy()
        rows, layer_inputs = forward(ids, positions, documents, seed)
        found, back = last_back(rows, positions, documents, labels, seed, one, one, one)
        first_back(ids, positions, documents, labels, seed, one, one, back, *layer_inputs)
        assert float(found.asnumpy()) == pytest.approx(float(loss.asnumpy()), rel=1e-5)
    assert len(first_back.compile_cache) == len(last_back.compile_cache) == len(forward.compile_cache) == 1
    assert set(first_sums) | set(last_sums) == set(expected)
    assert ("token_embedding.weight" in last_sums) == tied
    for name, gradient in expected.items():
        parts = [sums[name].asnumpy() for sums in (first_sums, last_sums) if name in sums]
        np.testing.assert_allclose(sum(parts), gradient, atol=1e-5 * max(np.abs(gradient).max(), 1e-3), err_msg=name)
