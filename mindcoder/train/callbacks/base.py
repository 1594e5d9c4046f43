"""What the trainer tells, and to whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mindcoder.train.evaluate import EvalResult

# What is drawn of updates and evaluations.
STEP_SCALARS = (
    "loss", "learning_rate", "grad_norm", "tokens_per_second", "loss_scale", "tflops", "mfu", "memory_gb",
)  # fmt: skip
EVAL_SCALARS = ("loss", "perplexity", "accuracy")


@dataclass(frozen=True)
class StepRecord:
    """One update.

    Attributes:
        step: updates done, this one included.
        epoch: epochs done, with the share of the running one.
        loss: mean over the step's labelled tokens, in nats.
        learning_rate: of this update.
        grad_norm: global L2 norm before clipping.
        tokens_per_second: positions of the step ÷ its seconds.
        loss_scale: in use for this step.
        skipped: the gradient was not finite and nothing was updated.
        tflops: floating point operations of this process, in 10^12 a second (forward and backward; not what
            recomputation does again).
        mfu: ``tflops`` ÷ what the device could do at most (``runner_config.peak_tflops``); 0 where that is not said.
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
    """Base of the trainer's listeners; every method may be left out."""

    def on_start(self, step: int, total_steps: int) -> None:
        """The run starts, or resumes after ``step`` updates."""

    def on_step(self, record: StepRecord) -> None:
        """After every update."""

    def on_eval(self, step: int, result: EvalResult) -> None:
        """After every evaluation."""

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """A checkpoint was written."""

    def on_end(self) -> None:
        """The run is over, also after an error."""
