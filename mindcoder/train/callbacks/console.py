"""Progress line at the bottom of a terminal, and permanent lines on the console and in the log."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from pathlib import Path

from mindcoder.progress import tqdm
from mindcoder.train.callbacks.base import Callback, StepRecord
from mindcoder.train.digits import decimals
from mindcoder.train.evaluate import EvalResult

REDRAW_SECONDS = 0.1
CLOCK_SECONDS = 1.0
SMALLEST_BAR = 8  # columns
DEFAULT_COLUMNS = 80

log = logging.getLogger("mindcoder.train")


class ConsoleProgress(Callback):
    """Shows steps, loss and speed; on a terminal also a clock that keeps running while the first step compiles.

    Args:
        every: print a permanent line every ``every`` updates (MFLossMonitor's per_print_times).
    """

    def __init__(self, every: int = 10) -> None:
        self._every = every
        self._line: BottomLine | None = None

    def on_start(self, step: int, total_steps: int) -> None:
        self._total = total_steps
        if sys.stderr.isatty():
            self._line = BottomLine(step, total_steps)

    def on_step(self, record: StepRecord) -> None:
        line = (
            f"step {record.step}/{self._total}, epoch {record.epoch:.2f}, loss {decimals(record.loss, 5)}, "
            f"lr {record.learning_rate:.3e}, grad norm {decimals(record.grad_norm, 3)}, "
            f"{decimals(record.tokens_per_second, 0)} tokens/s"
        )
        if record.skipped and record.loss_scale != 1.0:
            log.warning(
                "step %d: gradient overflow, update skipped, loss scale %g halved", record.step, record.loss_scale
            )
        log.debug("step %d: %.4g TFLOP/s, %.2f GB resident", record.step, record.tflops, record.memory_gb)
        due = record.step % self._every == 0 or record.step in (1, self._total)
        log.log(logging.INFO if due else logging.DEBUG, line)
        if self._line is not None:
            self._line.show(record)

    def on_eval(self, step: int, result: EvalResult) -> None:
        log.info("step %d, eval: %s", step, result)

    def on_checkpoint(self, step: int, folder: Path) -> None:
        log.info("step %d, checkpoint: %s", step, folder)

    def on_end(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


class BottomLine:
    """The last line of a terminal, with messages above it. A thread keeps its clock running.

    Args:
        step: updates done so far.
        total: updates of the run.
    """

    def __init__(self, step: int, total: int) -> None:
        self._first = self._step = step
        self._total = total
        self._middle = ""
        self._began, self._drawn = time.monotonic(), float("-inf")
        self._after_first = 0.0  # time of the first update, which includes compilation
        # tqdm takes care of messages above the line; the content of the line is ours.
        self._bar = tqdm(bar_format="{desc}", dynamic_ncols=True, file=sys.stderr)
        self._stopped = threading.Event()
        self._draw()
        self._clock = threading.Thread(target=self._run_clock, name="progress", daemon=True)
        self._clock.start()

    def show(self, record: StepRecord) -> None:
        """Show an update."""
        if not self._after_first:
            self._after_first = time.monotonic()
        self._step = record.step
        self._middle = f"loss {decimals(record.loss, 4)}, {decimals(record.tokens_per_second, 0)} tokens/s"
        if time.monotonic() - self._drawn >= REDRAW_SECONDS or self._step == self._total:
            self._draw()

    def close(self) -> None:
        """Leave the line on the screen and continue below it."""
        self._stopped.set()
        self._clock.join()
        self._draw()
        self._bar.close()

    def _run_clock(self) -> None:
        while not self._stopped.wait(CLOCK_SECONDS):
            self._draw()

    def _draw(self) -> None:
        now = time.monotonic()
        self._drawn = now
        text = status_line(_columns() - 1, self._step, self._total, self._middle, now - self._began, self._left(now))
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone; the run continues
            self._bar.set_description_str(text)

    def _left(self, now: float) -> float | None:
        """Estimated seconds remaining, at the pace since the first update."""
        done = self._step - self._first - 1
        if done < 1:
            return None
        return (now - self._after_first) / done * (self._total - self._step)


def status_line(columns: int, step: int, total: int, middle: str, elapsed: float, left: float | None) -> str:
    """Fit the status into ``columns``: steps, ``middle`` (loss and speed) and clock first, a bar if there is room.

    Args:
        middle: empty before the first update.
        elapsed, left: seconds; ``left`` is None if unknown.
    """
    text = f"{step}/{total} " + (middle or "compiling the first step")
    clock = f" {_clock(elapsed)}" + ("" if left is None else f"<{_clock(left)}")
    if len(text) + len(clock) > columns:
        return text[:columns]
    room = columns - len(text) - len(clock) - 3  # a space and two brackets
    if room < SMALLEST_BAR:
        return text + clock
    filled = room * step // max(total, 1)
    return f"{text} [{'#' * filled}{'.' * (room - filled)}]{clock}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _columns() -> int:
    """Width of the terminal that messages go to."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or DEFAULT_COLUMNS
    except (OSError, ValueError):
        return DEFAULT_COLUMNS
