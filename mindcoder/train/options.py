"""Training hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mindcoder.data.text_format import UNKNOWN, TextFormat
from mindcoder.peft.options import LoraOptions, PrefixOptions
from mindcoder.train.health import HealthOptions
from mindcoder.train.identity import Identity
from mindcoder.train.optimizer import AdamWOptions
from mindcoder.train.precision import LossScale
from mindcoder.train.schedule import Schedule


@dataclass(frozen=True)
class TrainOptions:
    """Training hyperparameters.

    Attributes:
        total_steps: updates of the whole run.
        epochs: passes over the data; the run ends at whichever comes first.
        accumulate: micro batches per update.
        schedule: learning rate by update.
        optimizer: AdamW's hyperparameters.
        max_grad_norm: clip to this global norm; 0 disables clipping.
        seed: of dropout; initial values and data order use it separately.
        save_every: updates between checkpoints; 0 saves at the end only.
        keep: number of checkpoints to keep.
        eval_every: updates between evaluations; 0 evaluates at the end only.
        checkpoint_root: folder of the checkpoints.
        loss_scale: at the start; for float16, scale 1 and factor 1 otherwise.
        recompute: keep only each layer's input and recompute the layer in the backward pass.
        shard_optimizer: shard the optimizer states over the data-parallel ranks (ZeRO-1).
        lora, prefix: train an adapter; only it is saved.
        base: location of an adapter's frozen weights.
        health: reaction to loss spikes and NaN losses.
        identity: everything that determines the run's numbers; stored in checkpoints.
        text_format: how the texts of the data became token ids; stored in checkpoints.
        peak_tflops: peak of a device in 10^12 floating point operations per second; 0 if unknown.
    """

    total_steps: int
    epochs: int
    accumulate: int
    schedule: Schedule
    optimizer: AdamWOptions
    max_grad_norm: float
    seed: int
    save_every: int
    keep: int
    eval_every: int
    checkpoint_root: Path
    loss_scale: LossScale = field(default_factory=LossScale)
    recompute: bool = False
    shard_optimizer: bool = False
    lora: LoraOptions | None = None
    prefix: PrefixOptions | None = None
    base: str = ""
    health: HealthOptions = HealthOptions()
    identity: Identity | None = None
    text_format: TextFormat = UNKNOWN
    peak_tflops: float = 0.0

    @property
    def freezes(self) -> bool:
        """Whether an adapter is trained instead of all weights."""
        return self.lora is not None or self.prefix is not None
