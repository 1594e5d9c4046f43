"""Schedule, loss scale, dropout, recomputation: the parts of a training step."""

from __future__ import annotations

from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
import torch
from mindspore import Tensor

from mindcoder.backend.dropout import CounterDropout
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.models.decoder import Decoder
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.precision import LossScale
from mindcoder.train.schedule import Schedule
from mindcoder.train.step import TrainStep

CONFIG = TransformerConfig("gpt_bigcode", 67, 32, 2, 4, 1, 64, 48)


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_schedules_equal_transformers(kind):
    from transformers import get_scheduler

    names = {"constant": "constant_with_warmup"}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    reference = get_scheduler(names.get(kind, kind), optimizer, num_warmup_steps=7, num_training_steps=50)
    schedule = Schedule(kind, 3e-4, 50, 7)
    for step in range(50):
        assert schedule.at(step) == pytest.approx(reference.get_last_lr()[0], rel=1e-9, abs=1e-15), step
        optimizer.step()
        reference.step()


def test_wsd_equals_transformers():
    from transformers import get_wsd_schedule

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = get_wsd_schedule(
        optimizer, 5, 20, num_training_steps=60, num_stable_steps=35, decay_type="linear", min_lr_ratio=0.1
    )
    schedule = Schedule("wsd", 1.0, 60, 5, start=0.1, end=0.1, decay_start=40)
    for step in range(60):
        assert schedule.at(step) == pytest.approx(reference.get_last_lr()[0]), step
        optimizer.step()
        reference.step()


def test_loss_scale_halves_on_overflow_and_grows_after_a_window():
    scale = LossScale(8.0, 2, 3)
    scale.update(False)
    assert scale.value == 4.0
    for _ in range(3):
        scale.update(True)
    assert scale.value == 8.0
    fixed = LossScale(8.0, 1)
    fixed.update(False)
    assert fixed.value == 8.0 and fixed.scales and not LossScale().scales


def batch(seed: int = 0, rows: int = 2, length: int = 24):
    ids = np.random.default_rng(seed).integers(0, 67, (rows, length + 1)).astype(np.int32)
    positions = np.tile(np.arange(length, dtype=np.int32), (rows, 1))
    return [Tensor(ids[:, :-1]), Tensor(positions), Tensor(np.zeros_like(positions)), Tensor(ids[:, 1:])]


def train_step(config: TransformerConfig, **settings) -> TrainStep:
    decoder = Decoder(config, seed=1)
    step = TrainStep(
        decoder, AdamW(ms.ParameterTuple(decoder.trainable_params()), AdamWOptions(eps=1e-6)), 1.0, **settings
    )
    step.set_train(True)
    return step


def call(step: TrainStep, inputs, seed: int = 0, rate: float = 1e-3, scale: float = 1.0):
    loss, norm = step(
        *inputs,
        Tensor(seed, ms.int32),
        Tensor(rate, ms.float32),
        Tensor(scale, ms.float32),
        Tensor(1.0, ms.float32),
        Tensor(True),
    )
    return float(loss.asnumpy()), float(norm.asnumpy())


def weights(step: TrainStep) -> dict[str, np.ndarray]:
    return {item.name: item.asnumpy().copy() for item in step.weights}


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_recomputation_changes_nothing(dropout):
    config = replace(CONFIG, embedding_dropout=dropout, hidden_dropout=dropout, attention_dropout=dropout)
    plain, recomputed = train_step(config), train_step(config, recompute=True)
    for number in range(3):
        first, second = call(plain, batch(number), number), call(recomputed, batch(number), number)
        np.testing.assert_allclose(first, second, rtol=2e-6)
    for name, value in weights(plain).items():
        if not name.endswith("key.bias"):
            np.testing.assert_allclose(weights(recomputed)[name], value, atol=1e-6, err_msg=name)


def test_dropout_mask_has_its_rate_and_repeats_with_its_seed():
    x = Tensor(np.ones((512, 256), np.float32))
    for rate in (0.1, 0.5):
        cell = CounterDropout(rate, 3)
        cell.set_train(True)
        out = cell(x, Tensor(7, ms.int32)).asnumpy()
        assert set(np.unique(out)) == {np.float32(0), np.float32(1 / (1 - rate))}
        # 5 standard deviations of a binomial
        assert abs((out == 0).mean() - rate) < 5 * (rate * (1 - rate) / out.size) ** 0.5
        assert (cell(x, Tensor(7, ms.int32)).asnumpy() == out).all()
        zero = out == 0
        for other in (cell(x, Tensor(8, ms.int32)), twin(rate, 4)(x, Tensor(7, ms.int32))):
            both = (zero & (other.asnumpy() == 0)).mean()
            assert abs(both - rate**2) < 0.01  # independent of the first
        neighbours = (zero[:, 1:] & zero[:, :-1]).mean(), (zero[1:] & zero[:-1]).mean()
        np.testing.assert_allclose(neighbours, rate**2, atol=0.01)
    cell.set_train(False)
    assert (cell(x, Tensor(7, ms.int32)).asnumpy() == 1).all()


def twin(rate: float, site: int) -> CounterDropout:
    cell = CounterDropout(rate, site)
    cell.set_train(True)
    return cell


def test_dropout_gradient_matches_finite_differences():
    """The step's gradient under dropout is that of its own loss: a small move along it changes the loss so much."""
    config = replace(CONFIG, num_layers=1, embedding_dropout=0.1, hidden_dropout=0.2, attention_dropout=0.3)
    step = train_step(config)
    inputs = batch()
    start = weights(step)

    class Probe(ms.nn.Cell):
        def __init__(self):
            super().__init__(auto_prefix=False)
            self.step = step

        def construct(self, *inputs):
            return self.step.gradients(*inputs, Tensor(5, ms.int32), Tensor(1.0, ms.float32))

    probe = Probe()
    probe.set_train(True)
    _, grads = probe(*inputs)
    grads = [item.asnumpy() for item in grads]
    norm = np.sqrt(sum(float((item.astype(np.float64) ** 2).sum()) for item in grads))
    losses = []
    for sign in (1, -1):
        for item, grad in zip(step.weights, grads):
            item.set_data(Tensor(start[item.name] + sign * 1e-2 * grad / norm))
        losses.append(float(probe(*inputs)[0].asnumpy()))
    assert (losses[0] - losses[1]) / 2e-2 == pytest.approx(norm, rel=2e-2)


def test_float16_overflow_skips_the_update_and_a_smaller_scale_trains():
    step = train_step(replace(CONFIG, compute_dtype="float16"), loss_scaled=True)
    before = weights(step)
    _, norm = call(step, batch(), scale=2.0**40)
    assert not np.isfinite(norm)
    assert all((value == before[name]).all() for name, value in weights(step).items())
    assert float(step.update.optimizer.steps.asnumpy()) == 0
    reference = train_step(CONFIG)
    for _number in range(6):
        half = call(step, batch(), rate=1e-2, scale=1024.0)
        full = call(reference, batch(), rate=1e-2)
        np.testing.assert_allclose(half[0], full[0], rtol=2e-2)
    assert half[0] < 3.9


def test_float16_parameters_keep_a_float32_master():
    step = train_step(replace(CONFIG, num_layers=1, param_dtype="float16"))
    name = "layers.0.mlp.up.weight"
    index = [item.name for item in step.weights].index(name)
    before = step.update.optimizer.master[index].asnumpy().copy()
    for _ in range(3):
        call(step, batch(), rate=1e-5)
    master, stored = step.update.optimizer.master[index].asnumpy(), step.weights[index].asnumpy()
    assert master.dtype == np.float32 and stored.dtype == np.float16
    assert 0 < abs(master - before).max() < 1e-4
    assert (stored == master.astype(np.float16)).all()
    assert f"master.{name}" in step.update.optimizer.state()
