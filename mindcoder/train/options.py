"""What a training run is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mindcoder.data.text_format import UNKNOWN, TextFormat
from mindcoder.models.preference_loss import PreferenceOptions
from mindcoder.peft.options import LoraOptions, PrefixOptions
from mindcoder.train.health import HealthOptions
from mindcoder.train.identity import Identity


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    Attributes:
        total_steps: updates of the whole run.
        epochs: passes over the data; whichever ends first ends the run.
        accumulate: micro batches an update.
        max_grad_norm: clip to this global norm; 0 leaves gradients.
        seed: of dropout; start values and data order have their own use of it.
        save_every: updates between checkpoints; 0 saves at the end only.
        keep: how many checkpoints stay.
        eval_every: updates between evaluations; 0 evaluates at the end only.
        checkpoint_root: folder of the checkpoints.
        recompute: keep each layer's input only and run it again in the backward pass.
        shard_optimizer: divide the optimizer states over the data axis (ZeRO-1).
        lora, prefix: what is trained is an adapter; only it is saved.
        base: where the frozen weights of an adapter lie.
        preference: learn from pairs of answers.
        health: what to do about losses that jump or are no numbers.
        head_rows: by a micro batch's length, how many of its rows the head is computed for, at least as many as have a
            label; None for all.
        identity: what decides the run's numbers; kept in checkpoints.
        text_format: how the texts of the data became token ids; kept in checkpoints.
        peak_tflops: 10^12 floating point operations a second of a device; 0 where it is not known.
    """

    total_steps: int
    epochs: int
    accumulate: int
    max_grad_norm: float
    seed: int
    save_every: int
    keep: int
    eval_every: int
    checkpoint_root: Path
    recompute: bool = False
    shard_optimizer: bool = False
    lora: LoraOptions | None = None
    prefix: PrefixOptions | None = None
    base: str = ""
    preference: PreferenceOptions | None = None
    health: HealthOptions = HealthOptions()
    identity: Identity | None = None
    text_format: TextFormat = UNKNOWN
    peak_tflops: float = 0.0
    head_rows: Mapping[int, int] | None = None

    @property
    def freezes(self) -> bool:
        """Whether an adapter is trained in place of the weights."""
        return self.lora is not None or self.prefix is not None
