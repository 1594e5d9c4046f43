"""Training events and the interface of callbacks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mindcoder.train.evaluate import EvalResult

# Scalars to plot of updates and evaluations.
STEP_SCALARS = (
    "loss", "learning_rate", "grad_norm", "tokens_per_second", "loss_scale", "tflops", "mfu", "memory_gb",
)  # fmt: skip
EVAL_SCALARS = ("loss", "perplexity", "accuracy")


@dataclass(frozen=True)
class StepRecord:
    """One update.

    Attributes:
        step: number of updates so far, including this one.
        epoch: epochs so far, as a fraction.
        loss: mean over the step's labeled tokens, in nats.
        learning_rate: of this update.
        grad_norm: global L2 norm before clipping.
        tokens_per_second: token positions of the step divided by its duration.
        loss_scale: used in this step.
        skipped: the gradient was not finite and nothing was updated.
        tflops: 10^12 floating point operations per second of this process (forward and backward, without
            recomputation).
        mfu: ``tflops`` divided by the device's peak (``runner_config.peak_tflops``); 0 if that is not given.
        memory_gb: resident memory of this process, in 10^9 bytes.
    """

    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    tokens_per_second: float
    loss_scale: float
    skipped: bool
    tflops: float = 0.0
    mfu: float = 0.0
    memory_gb: float = 0.0


class Callback:
    """Base class of training callbacks; all methods are optional."""

    def on_start(self, step: int, total_steps: int) -> None:
        """Called when the run starts, or resumes after ``step`` updates."""

    def on_step(self, record: StepRecord) -> None:
        """Called after every update."""

    def on_eval(self, step: int, result: EvalResult) -> None:
        """Called after every evaluation."""

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Called after a checkpoint has been written."""

    def on_end(self) -> None:
        """Called when the run is over, also after an error."""


class History(Callback):
    """Collects every update.

    Attributes:
        records: in their order.
    """

    def __init__(self) -> None:
        self.records: list[StepRecord] = []

    def on_step(self, record: StepRecord) -> None:
        self.records.append(record)
