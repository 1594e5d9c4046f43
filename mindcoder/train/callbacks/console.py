"""Progress bar on a terminal, a line now and then elsewhere; everything in the log."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from mindcoder.progress import tqdm
from mindcoder.train.callbacks.base import Callback, StepRecord
from mindcoder.train.evaluate import EvalResult

log = logging.getLogger("mindcoder.train")


class ConsoleProgress(Callback):
    """Shows rate, time left and loss.

    Args:
        every: without a terminal, a line each ``every`` updates (MFLossMonitor's per_print_times).
    """

    def __init__(self, every: int = 10) -> None:
        self._every = every
        self._bar: tqdm | None = None

    def on_start(self, step: int, total_steps: int) -> None:
        self._bar = tqdm(
            total=total_steps,
            initial=step,
            desc="train",
            unit=" steps",
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )
        self._total = total_steps

    def on_step(self, record: StepRecord) -> None:
        assert self._bar is not None
        self._bar.update(1)
        self._bar.set_postfix_str(f"loss {record.loss:.4f}, {record.tokens_per_second:.0f} tokens/s")
        line = (
            f"step {record.step}/{self._total}, epoch {record.epoch:.2f}, loss {record.loss:.5f}, "
            f"lr {record.learning_rate:.3e}, grad norm {record.grad_norm:.3f}, "
            f"{record.tokens_per_second:.0f} tokens/s"
        )
        if record.skipped and record.loss_scale != 1.0:
            log.warning(
                "step %d: gradient overflow, update skipped, loss scale %g halved", record.step, record.loss_scale
            )
        log.debug("step %d: %.4g TFLOP/s, %.2f GB resident", record.step, record.tflops, record.memory_gb)
        due = record.step % self._every == 0 or record.step in (1, self._total)
        log.log(logging.INFO if due and self._bar.disable else logging.DEBUG, line)

    def on_eval(self, step: int, result: EvalResult) -> None:
        log.info("step %d, eval: %s", step, result)

    def on_checkpoint(self, step: int, folder: Path) -> None:
        log.info("step %d, checkpoint: %s", step, folder)

    def on_end(self) -> None:
        if self._bar is not None:
            self._bar.close()
