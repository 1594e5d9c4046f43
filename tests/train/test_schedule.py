"""Learning rates of every type against MindFormers' own classes, and optimizers against MindSpore's."""

from __future__ import annotations

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
import torch
from mindspore import Parameter, ParameterTuple, Tensor, nn

from mindcoder.config.load import load_config
from mindcoder.errors import UserError
from mindcoder.train.from_section import build_optimizer, build_schedule
from mindcoder.train.optimizer import AdamW, AdamWOptions

STEPS = 40


def config_of(tmp_path: Path, section: str):
    path = tmp_path / "a.yaml"
    path.write_text(f"run_mode: train\n{section}\n")
    return load_config(path)[0]


@pytest.fixture(scope="module")
def registered():
    """MindFormers' register of classes by YAML name."""
    from mindformers.core.lr import lr_schedule  # noqa: F401  # registers its aliases too
    from mindformers.core.lr.build_lr import build_lr

    ms.set_context(mode=1)  # its classes branch in Python
    yield build_lr
    ms.set_context(mode=0)


WARM_UP = {"learning_rate": 3e-4, "warmup_steps": 5, "warmup_lr_init": 1e-6}


@pytest.mark.parametrize(
    "keys",
    [
        {"type": "ConstantWarmUpLR", **WARM_UP},
        {"type": "constant_with_warmup", **WARM_UP, "warmup_ratio": 0.2},
        {"type": "LinearWithWarmUpLR", **WARM_UP},
        {"type": "CosineWithWarmUpLR", **WARM_UP, "lr_end": 1e-5},
        {"type": "CosineWithWarmUpLR", **WARM_UP, "lr_end": 1e-5, "num_cycles": 1.5, "decay_steps": 30},
        {"type": "cosine", "learning_rate": 1.0, "decay_ratio": 0.5},
        {"type": "CosineWithRestartsAndWarmUpLR", **WARM_UP, "num_cycles": 3.0, "lr_end": 1e-5},
        {"type": "CosineWithRestartsAndWarmUpLR", **WARM_UP, "num_cycles": 2.0, "lr_end": 1e-5, "decay_steps": 60},
        {"type": "cosine_with_restarts", **WARM_UP},
        {"type": "PolynomialWithWarmUpLR", **WARM_UP, "power": 2.0},
        {"type": "polynomial", **WARM_UP, "lr_end": 1e-5, "decay_steps": 50},
        {"type": "WarmUpStableDecayLR", **WARM_UP, "decay_start_steps": 25},
        {"type": "WarmUpStableDecayLR", **WARM_UP, "decay_start_ratio": 0.5, "lr_end": 1e-5},
        {
            "type": "ConstantWithCoolDownLR",
            **WARM_UP,
            "keep_steps": 6,
            "decay_steps": 12,
            "final_steps": 7,
            "lr_end1": 2e-5,
            "lr_end2": 1e-5,
        },
        {"type": "ConstantWithCoolDownLR", **WARM_UP, "decay_ratio": 0.5, "num_cycles": 1.0, "lr_end1": 2e-5},
        {"type": "CosineAnnealingLR", "base_lr": 3e-4, "t_max": 9, "eta_min": 1e-5},
        {"type": "cosine_annealing_warm_restarts", "base_lr": 3e-4, "t_0": 7, "eta_min": 1e-5},
        {"type": "CosineAnnealingWarmRestarts", "base_lr": 3e-4, "t_0": 5, "t_mult": 2, "eta_min": 1e-5},
    ],
    ids=lambda keys: f"{keys['type']}-{len(keys)}",
)
def test_every_type_equals_mindformers_step_by_step(keys, tmp_path, registered):
    text = ", ".join(f"{key}: {value!r}" for key, value in keys.items()).replace("'", "")
    schedule = build_schedule(config_of(tmp_path, f"lr_schedule: {{{text}}}"), STEPS)
    totals = {} if "base_lr" in keys else {"total_steps": STEPS}
    reference = registered({**keys, **totals})
    for step in range(1, STEPS + 3):  # at 0 its WSD without a warm-up divides by zero
        if keys["type"] == "WarmUpStableDecayLR" and step > STEPS:
            break  # its rate turns negative behind the last step; ours stays at lr_end
        expected = float(reference(Tensor(step, ms.int32)))
        assert schedule.at(step) == pytest.approx(expected, rel=2e-5, abs=3e-10), step


@pytest.mark.parametrize(
    "section, expected",
    [
        (
            "{type: LinearWithWarmUpLR, learning_rate: 1.0, lr_end: 0.1}",
            "lr_schedule.lr_end: LinearWithWarmUpLR has no",
        ),
        ("{type: CosineWithWarmUpLR, learning_rate: 1.0, power: 2.0}", "lr_schedule.power: CosineWithWarmUpLR has no"),
        ("{type: LearningRateWiseLayer, learning_rate: 1.0}", "found 'LearningRateWiseLayer', expected one of"),
        ("{type: CosineAnnealingLR, base_lr: 1.0}", "lr_schedule.t_max: is missing, CosineAnnealingLR needs it"),
        ("{type: WarmUpStableDecayLR, learning_rate: 1.e-4, lr_end: 1.e-3}", "lr_end: found 0.001, expected less than"),
        ("{type: CosineWithWarmUpLR, learning_rate: .inf}", "learning_rate: found inf, expected a finite number"),
        ("{type: CosineWithWarmUpLR, learning_rate: .nan}", "learning_rate: found nan, expected a finite number"),
        ("{type: CosineWithWarmUpLR}", "lr_schedule.learning_rate is missing (or optimizer.learning_rate)"),
    ],
)
def test_what_a_type_does_not_have_is_refused(section, expected, tmp_path):
    with pytest.raises(UserError) as caught:
        config_of(tmp_path, f"lr_schedule: {section}")
    assert expected in str(caught.value)


def test_a_polynomial_that_would_turn_negative_is_refused(tmp_path):
    section = "lr_schedule: {type: PolynomialWithWarmUpLR, learning_rate: 1.0, decay_steps: 9}"
    with pytest.raises(UserError, match="decay_steps: 9 is less than the 40 updates"):
        build_schedule(config_of(tmp_path, section), STEPS)


def trained(options: AdamWOptions, gradients: np.ndarray, start: np.ndarray) -> np.ndarray:
    """``start`` after one update per gradient, at a rate of 0.01."""
    weight = Parameter(Tensor(start), name="weight")
    optimizer = AdamW(ParameterTuple([weight]), options)
    for gradient in gradients:
        optimizer((Tensor(gradient),), Tensor(1.0, ms.float32), Tensor(0.01, ms.float32))
    return weight.asnumpy()


@pytest.mark.parametrize("name", ["AdamW", "AdamWeightDecay", "FP32StateAdamWeightDecay", "AdamWeightDecayX"])
def test_every_optimizer_updates_as_the_one_it_is_named_after(name, tmp_path, rng):
    keys = f"optimizer: {{type: {name}, beta1: 0.9, beta2: 0.95, eps: 1.0e-4, weight_decay: 0.1}}"
    config = config_of(tmp_path, f"lr_schedule: {{learning_rate: 0.01}}\n{keys}")
    start = rng.standard_normal((5, 3)).astype(np.float32)
    gradients = rng.standard_normal((6, 5, 3)).astype(np.float32)
    ours = trained(build_optimizer(config), gradients, start)
    if name == "AdamW":
        weight = torch.nn.Parameter(torch.tensor(start))
        reference = torch.optim.AdamW([weight], 0.01, (0.9, 0.95), 1e-4, 0.1)
        for gradient in gradients:
            weight.grad = torch.tensor(gradient)
            reference.step()
        expected = weight.detach().numpy()
    elif name == "AdamWeightDecayX":  # github.com/mindspore-lab/mindformers, r1.2.0, research/llama3/optim.py
        expected, mean, square = start.astype(np.float64), 0.0, 0.0
        for step, gradient in enumerate(gradients.astype(np.float64), 1):
            mean, square = 0.9 * mean + 0.1 * gradient, 0.95 * square + 0.05 * gradient**2
            size = 0.01 * (1 - 0.95**step) ** 0.5 / (1 - 0.9**step)
            expected = expected * (1 - 0.01 * 0.1) - size * mean / (square**0.5 + 1e-4)
    else:
        parameter = Parameter(Tensor(start), name="reference")
        reference = nn.AdamWeightDecay([parameter], 0.01, 0.9, 0.95, 1e-4, 0.1)
        for gradient in gradients:
            reference((Tensor(gradient),))
        expected = parameter.asnumpy()
    np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=2e-6)
    assert name == "AdamW" or np.abs(ours - trained(AdamWOptions(0.9, 0.95, 1e-4, 0.1), gradients, start)).max() > 1e-5
