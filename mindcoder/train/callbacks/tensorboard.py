"""TensorBoard events."""

from __future__ import annotations

from pathlib import Path

from mindcoder.train.callbacks.base import EVAL_SCALARS, STEP_SCALARS, Callback, StepRecord
from mindcoder.train.evaluate import EvalResult


class TensorBoard(Callback):
    """Writes scalars with tensorboardX into ``folder``; a resumed run purges the steps it will write again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_start(self, step: int, total_steps: int) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=step + 1 if step else None)

    def on_step(self, record: StepRecord) -> None:
        for name in STEP_SCALARS:
            self._writer.add_scalar(f"train/{name}", getattr(record, name), record.step)

    def on_eval(self, step: int, result: EvalResult) -> None:
        for name in EVAL_SCALARS:
            self._writer.add_scalar(f"eval/{name}", getattr(result, name), step)

    def on_end(self) -> None:
        self._writer.close()
