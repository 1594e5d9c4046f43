"""Losses that jump or are no numbers: noticed, written down with the rows that caused them, undone where asked for."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from mindcoder.train.callbacks.base import StepRecord

Verdict = Literal["fine", "not finite", "spike"]
FEWEST = 10  # losses before a spike can be told


@dataclass(frozen=True)
class HealthOptions:
    """What is noticed and done.

    Attributes:
        spike_factor: a loss above this times the median of the last ``window`` losses is a spike; 0 notices none.
        window: losses.
        patience: updates in a row that may be skipped because their gradient is not finite; 0 stops at the first.
        rewind: go back to the newest checkpoint after a spike, and on with the data behind it.
    """

    spike_factor: float = 0.0
    window: int = 50
    patience: int = 0
    rewind: bool = False


class LossHealth:
    """Judges updates one after the other.

    Args:
        options: see `HealthOptions`.
        file: JSON lines of what was noticed.
    """

    def __init__(self, options: HealthOptions, file: Path) -> None:
        self.options, self.file = options, file
        self._losses: deque[float] = deque(maxlen=options.window)
        self.skipped_in_a_row = 0

    def judge(self, loss: float, grad_norm: float) -> Verdict:
        """Of an update; remembers its loss unless something is wrong with it."""
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            self.skipped_in_a_row += 1
            return "not finite"
        self.skipped_in_a_row = 0
        if self.options.spike_factor > 0 and len(self._losses) >= FEWEST:
            if loss > self.options.spike_factor * median(self._losses):
                return "spike"
        self._losses.append(loss)
        return "fine"

    @property
    def hopeless(self) -> bool:
        """Whether more updates were skipped in a row than is allowed."""
        return self.skipped_in_a_row > self.options.patience

    def note(self, record: StepRecord, verdict: Verdict, action: str, rows: Sequence[int], dataset: str) -> None:
        """Append a line that says what happened, what was done, and which rows of the dataset were in the step."""
        entry = {
            "step": record.step,
            "verdict": verdict,
            "action": action,
            "loss": record.loss if math.isfinite(record.loss) else str(record.loss),
            "grad_norm": record.grad_norm if math.isfinite(record.grad_norm) else str(record.grad_norm),
            "learning_rate": record.learning_rate,
            "rows": list(rows),
            "dataset": dataset,
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.file, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
