"""A process for ``test_upstream.py``: ``upstream_child.py losses STEPS FOLDER`` or ``… answer TOKENIZER FOLDER``.

MindFormers' Trainer turns to PyNative mode, which is right in a process without MindSpore's operator plugin alone.
"""

from __future__ import annotations

import json
import sys

import mindspore as ms
import numpy as np

from mindcoder.interop.shims import prepare_environment

prepare_environment()

from mindformers import CosineWithWarmUpLR, Trainer, TrainingArguments  # noqa: E402
from mindformers.core.callback.callback import _get_loss_output  # noqa: E402
from mindformers.core.optim import AdamW  # noqa: E402  (FP32StateAdamWeightDecay is gone from MindFormers 1.9)
from mindformers.trainer.optimizer_grouped_parameters import get_optimizer_grouped_parameters  # noqa: E402
from mindspore.dataset import GeneratorDataset  # noqa: E402

from mindcoder.interop.wizardcoder import (  # noqa: E402
    WizardCoderConfig,
    WizardCoderLMHeadModel,
    WizardCoderTokenizer,
)

FLOAT32 = {"param_init_type": "float32", "compute_dtype": "float32", "softmax_dtype": "float32"}
LENGTH, TOKENS = 1025, 49153


class Losses(ms.Callback):
    """The loss of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    def step_end(self, run_context) -> None:
        self.values.append(float(_get_loss_output(run_context.original_args().net_outputs)[0]))


def train(steps: int, folder) -> list[float]:
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


def answer(tokenizer: str, folder: str) -> str:
    model = WizardCoderLMHeadModel(WizardCoderConfig(num_layers=2, batch_size=1, **FLOAT32))
    arguments = TrainingArguments(output_dir=folder, batch_size=1, num_train_epochs=1)
    trainer = Trainer(task="text_generation", model=model, args=arguments, tokenizer=WizardCoderTokenizer(tokenizer))
    (result,) = trainer.predict(
        input_data="hello world!", max_length=20, repetition_penalty=1, top_k=3, top_p=1, do_sample=False
    )
    return result["text_generation_text"][0]


if __name__ == "__main__":
    what, given, folder = sys.argv[1:]
    ms.set_context(mode=0, device_target="CPU")
    print("RESULT", json.dumps(train(int(given), folder) if what == "losses" else answer(given, folder)))
