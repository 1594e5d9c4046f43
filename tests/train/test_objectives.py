"""The interface of objectives: which one a configuration asks for, and a new one in place of those that are there."""

from __future__ import annotations

from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from conftest import REPOSITORY
from families import Gradients, one_batch
from mindspore import Tensor, nn

from mindcoder.config.load import load_config
from mindcoder.data.loader import Batch
from mindcoder.errors import UserError
from mindcoder.models.loss import LinearCrossEntropy
from mindcoder.parallel.mesh import SINGLE
from mindcoder.train.objectives.base import Objective
from mindcoder.train.objectives.causal_lm import CausalLM
from mindcoder.train.objectives.preference import Preference
from mindcoder.train.objectives.preference_loss import PreferenceOptions
from mindcoder.train.objectives.registry import (
    OBJECTIVES,
    build_objective,
    default_objective,
    objective_entry,
    objective_keys,
)
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.step import MicroBatch, TrainStep

TINY = REPOSITORY / "configs" / "wizardcoder" / "tiny_finetune.yaml"


def config_with(*settings: str):
    return load_config(TINY, list(settings))[0]


def test_the_configurations_section_chooses_the_objective():
    plain, dpo = config_with(), config_with("preference.type=dpo", "preference.beta=0.5", "load_checkpoint=x")
    assert objective_entry(plain).load() is CausalLM and objective_entry(dpo).load() is Preference
    assert {entry.load() for entry in OBJECTIVES} == {CausalLM, Preference}
    assert objective_keys(plain) == {"preference": None}  # as checkpoints have always had it
    assert objective_keys(dpo) == {
        "preference": {"type": "dpo", "beta": 0.5, "gamma": 0.0, "label_smoothing": 0.0},
    }
    pairs, texts = (SimpleNamespace(holds_pairs=holds) for holds in (True, False))
    made = build_objective(dpo, pairs, SINGLE)
    assert isinstance(made, Preference) and made.options == PreferenceOptions("dpo", 0.5)
    assert isinstance(build_objective(plain, texts, SINGLE), CausalLM)
    with pytest.raises(UserError, match="add a preference section"):
        build_objective(plain, pairs, SINGLE)
    with pytest.raises(UserError, match="holds no pairs"):
        build_objective(dpo, texts, SINGLE)


def test_objectives_state_weights_and_targets_of_a_batch(rng):
    labels = np.array([[5, -100, 7, -100], [-100, -100, -100, -100]], np.int32)
    batch = Batch(labels, labels, labels, labels, np.array([3]))
    assert default_objective().weight(batch) == 2 and default_objective().extra_targets(batch) == ()
    (indices,) = CausalLM({4: 3}).extra_targets(batch)
    assert indices.asnumpy().tolist() == [0, 2, 1] and indices.dtype == ms.int32
    preference = Preference(PreferenceOptions())
    assert preference.weight(batch) == 1
    assert preference.extra_targets(batch)[0].asnumpy().tolist() == [[0.0, 0.0]] * 2
    preference.reference = np.arange(8, dtype=np.float32).reshape(4, 2)
    assert preference.extra_targets(batch)[0].asnumpy().tolist() == [[6.0, 7.0], [0.0, 0.0]]


class Weighted(Objective):
    """An objective that nothing else knows: cross entropy times a number that comes with each batch."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    @classmethod
    def build(cls, config, loader, mesh):
        return cls(1.0)

    def weight(self, batch):
        return batch.row_count

    def extra_targets(self, batch):
        return (Tensor(self.factor, ms.float32),)

    def loss(self, decoder, scaled):
        return WeightedLoss()


class WeightedLoss(nn.Cell):
    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.cross_entropy = LinearCrossEntropy(scaled=True)

    def construct(self, hidden_states, weight, targets):
        labels, _, factor = targets
        return (self.cross_entropy(hidden_states, weight, labels)[0] * factor,)


class WeightedGradients(Gradients):
    """`Gradients` with the factor behind."""

    def construct(self, ids, positions, documents, labels, seed, scale, factor):
        return self.step.gradients(ids, positions, documents, labels, seed, scale, factor)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_new_objective_needs_no_change_of_the_step(recompute, hf_folder, rng):
    _, decoder, _ = hf_folder("llama", layers=1)
    optimizer = AdamW(ms.ParameterTuple(decoder.trainable_params()), AdamWOptions())
    _, _, inputs = one_batch(rng)
    seed, one, objective = Tensor(0, ms.int32), Tensor(1.0, ms.float32), Weighted(3.0)
    extra = objective.extra_targets(Batch(*(item.asnumpy() for item in inputs)))
    step = TrainStep(decoder, optimizer, recompute=recompute, objective=objective)
    plain = Gradients(TrainStep(decoder, optimizer, recompute=recompute))(*inputs, seed, one)
    ours = WeightedGradients(step)(*inputs, seed, one, *extra)
    np.testing.assert_allclose(ours[0].asnumpy(), 3 * plain[0].asnumpy(), rtol=1e-6)
    for found, expected in zip(ours[1], plain[1]):
        np.testing.assert_allclose(found.asnumpy(), 3 * expected.asnumpy(), rtol=1e-4, atol=1e-6)
    loss, norm = step.run([MicroBatch(*inputs, seed, one, extra)], 1e-3, 1.0)
    assert loss == pytest.approx(3 * float(plain[0].asnumpy()), rel=1e-6) and np.isfinite(norm)
