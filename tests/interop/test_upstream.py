"""MindFormers' own two tests of WizardCoder, asked of our classes.

What they check is taken from mindspore-lab/mindformers r1.1.0 (Apache-2.0): test_training_precision.py (20 steps on
random tokens, the loss of each against Ascend's) and test_trainer.py (``Trainer.predict``), both in
tests/st/test_model/test_wizardcoder_model. The code is ours. Two things differ: the losses depend on random numbers
that another device draws otherwise, so they have to lie where Ascend's lie; and CPU computes in float32, where a step
of float16 takes a minute.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore.dataset import GeneratorDataset

from mindcoder.interop.shims import prepare_environment

FLOAT32 = {"param_init_type": "float32", "compute_dtype": "float32", "softmax_dtype": "float32"}
LOWEST, HIGHEST = 10.847, 10.876  # of the 20 losses that the original test has from Ascend
SPREAD = 0.02  # three deviations of a step's loss: 1,024 random tokens
LENGTH, TOKENS = 1025, 49153


@pytest.fixture(scope="module", autouse=True)
def _environment():
    """MindFormers is imported where it is used: it takes seconds, in every process that collects this file."""
    prepare_environment()


class Losses(ms.Callback):
    """The loss of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    def step_end(self, run_context) -> None:
        from mindformers.core.callback.callback import _get_loss_output

        self.values.append(float(_get_loss_output(run_context.original_args().net_outputs)[0]))


def train(steps: int, folder) -> list[float]:
    from mindformers import CosineWithWarmUpLR, Trainer, TrainingArguments
    from mindformers.core.optim import AdamW  # FP32StateAdamWeightDecay is gone from MindFormers 1.9
    from mindformers.trainer.optimizer_grouped_parameters import get_optimizer_grouped_parameters

    from mindcoder.interop.classes import WizardCoderConfig, WizardCoderLMHeadModel

    ms.set_seed(0)
    rng = np.random.default_rng(0)
    data = [rng.integers(0, TOKENS, LENGTH).astype(np.int32) for _ in range(steps)]
    dataset = GeneratorDataset(lambda: ((row,) for row in data), column_names=["input_ids"], shuffle=False).batch(1)
    model = WizardCoderLMHeadModel(WizardCoderConfig(num_layers=2, batch_size=1, **FLOAT32))
    schedule = CosineWithWarmUpLR(learning_rate=2.0e-5, lr_end=1.0e-6, warmup_steps=0, total_steps=20)
    optimizer = AdamW(
        params=get_optimizer_grouped_parameters(model=model), betas=(0.9, 0.95), eps=1.0e-8, learning_rate=schedule
    )
    losses = Losses()
    arguments = TrainingArguments(output_dir=str(folder), batch_size=1, num_train_epochs=1)
    trainer = Trainer(task="text_generation", model=model, args=arguments, train_dataset=dataset, callbacks=losses,
                      optimizers=optimizer)  # fmt: skip
    trainer.config.runner_config.epochs = 1
    trainer.config.runner_config.sink_mode = False
    trainer.config.runner_wrapper.scale_sense.loss_scale_value = 1024
    trainer.config.callbacks = trainer.config.callbacks[:1]
    trainer.train()
    return losses.values


@pytest.mark.parametrize("steps", [2, pytest.param(20, marks=pytest.mark.cluster)])
def test_losses_of_the_first_steps_lie_where_ascends_lie(steps, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    losses = train(steps, tmp_path)
    assert len(losses) == steps
    assert all(LOWEST - SPREAD < loss < HIGHEST + SPREAD for loss in losses), losses
    assert LOWEST - SPREAD / 2 < np.mean(losses) < HIGHEST + SPREAD / 2


def test_trainer_predicts(tokenizer_folder, tmp_path, monkeypatch):
    from mindformers import Trainer, TrainingArguments

    from mindcoder.interop.classes import WizardCoderConfig, WizardCoderLMHeadModel, WizardCoderTokenizer

    monkeypatch.chdir(tmp_path)
    model = WizardCoderLMHeadModel(WizardCoderConfig(num_layers=2, batch_size=1, **FLOAT32))
    arguments = TrainingArguments(output_dir=str(tmp_path), batch_size=1, num_train_epochs=1)
    trainer = Trainer(task="text_generation", model=model, args=arguments,
                      tokenizer=WizardCoderTokenizer(str(tokenizer_folder)))  # fmt: skip
    (result,) = trainer.predict(
        input_data="hello world!", max_length=20, repetition_penalty=1, top_k=3, top_p=1, do_sample=False
    )
    assert result["text_generation_text"][0].startswith("hello world!")
    assert "hello world!" in (tmp_path / "text_generation_result.txt").read_text()
