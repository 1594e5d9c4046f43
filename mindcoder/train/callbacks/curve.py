"""The loss curve as CSV and PNG."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mindcoder.files import replacing, write_text
from mindcoder.train.callbacks.base import Callback, StepRecord
from mindcoder.train.evaluate import EvalResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE = 20.0  # ratio of largest to smallest loss from which the axis is logarithmic
STEP_FIELDS = (
    "step", "epoch", "loss", "learning_rate", "grad_norm", "tokens_per_second", "loss_scale", "skipped",
    "tflops", "mfu", "memory_gb",
)  # fmt: skip
EVAL_FIELDS = ("step", "loss", "perplexity", "accuracy", "tokens")


class CurveFiles(Callback):
    """Appends every update to ``loss.csv`` and every evaluation to ``eval.csv``; plots ``loss.png`` at the end.

    On resume, rows after the resumed step are removed first: those updates run again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_start(self, step: int, total_steps: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._steps = self._reopen("loss.csv", STEP_FIELDS, step)
        self._evals = self._reopen("eval.csv", EVAL_FIELDS, step)

    def _reopen(self, name: str, fields: tuple[str, ...], step: int):
        path = self._folder / name
        kept = []
        if step > 0 and path.is_file():
            with open(path, newline="") as stream:
                kept = [row for row in csv.DictReader(stream) if int(row["step"]) <= step]
        text = io.StringIO()
        before = csv.DictWriter(text, fields, lineterminator="\n")
        before.writeheader()
        before.writerows(kept)
        write_text(path, text.getvalue())  # written atomically: a kill must not lose the existing rows
        stream = open(path, "a", newline="", buffering=1)
        return stream, csv.DictWriter(stream, fields, lineterminator="\n")

    def on_step(self, record: StepRecord) -> None:
        self._steps[1].writerow(
            {
                "step": record.step,
                "epoch": f"{record.epoch:.4f}",
                "loss": repr(record.loss),
                "learning_rate": f"{record.learning_rate:.6e}",
                "grad_norm": f"{record.grad_norm:.6g}",
                "tokens_per_second": f"{record.tokens_per_second:.1f}",
                "loss_scale": f"{record.loss_scale:g}",
                "skipped": int(record.skipped),
                "tflops": f"{record.tflops:.6g}",
                "mfu": f"{record.mfu:.4f}",
                "memory_gb": f"{record.memory_gb:.3f}",
            }
        )

    def on_eval(self, step: int, result: EvalResult) -> None:
        self._evals[1].writerow(
            {
                "step": step,
                "loss": repr(result.loss),
                "perplexity": f"{result.perplexity:.6g}",
                "accuracy": f"{result.accuracy:.6f}",
                "tokens": result.tokens,
            }
        )

    def on_end(self) -> None:
        for stream, _ in (self._steps, self._evals):
            stream.close()
        draw_curve(self._folder)


def draw_curve(folder: Path) -> Path | None:
    """Plot ``loss.csv`` and ``eval.csv`` of ``folder`` as ``loss.png``; None if there is nothing to plot."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.set_loglevel("WARNING")
    curves = {}
    for name in ("loss", "eval"):
        with open(folder / f"{name}.csv", newline="") as stream:
            rows = list(csv.DictReader(stream))
        curves[name] = [int(row["step"]) for row in rows], [float(row["loss"]) for row in rows]
    if not curves["loss"][0]:
        return None
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss (nats per token)")
    axes.plot(*curves["loss"], linewidth=1, label="train")
    if curves["eval"][0]:
        axes.plot(*curves["eval"], marker="o", markersize=3, label="eval")
    scale_loss(axes, [loss for _, losses in curves.values() for loss in losses])
    axes.grid(alpha=0.3)
    axes.legend()
    path = folder / "loss.png"
    with replacing(path) as stream:
        figure.savefig(stream, format="png")
    return path


def scale_loss(axes: Axes, losses: Sequence[float]) -> None:
    """Use a logarithmic axis with readable ticks for losses that span more than a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    positive = [loss for loss in losses if math.isfinite(loss) and loss > 0]
    if not positive or max(positive) < WIDE * min(positive):
        return
    axes.set_yscale("log")
    digits = FuncFormatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_formatter(digits)
    if max(positive) < 1000 * min(positive):  # few decades: label minor ticks too
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes.yaxis.set_minor_formatter(digits)
