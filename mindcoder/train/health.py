"""Detects NaN losses and loss spikes, logs the offending rows and optionally rewinds."""

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
FEWEST = 10  # losses needed before a spike can be detected


@dataclass(frozen=True)
class HealthOptions:
    """Thresholds and reactions.

    Attributes:
        spike_factor: a loss above this times the median of the last ``window`` losses is a spike; 0 disables detection.
        window: number of losses.
        patience: consecutive updates that may be skipped because of non-finite gradients; 0 stops at the first.
        rewind: after a spike, restore the latest checkpoint and continue with the data after the spike.
    """

    spike_factor: float = 0.0
    window: int = 50
    patience: int = 0
    rewind: bool = False


class LossHealth:
    """Judges one update after another.

    Args:
        options: see `HealthOptions`.
        file: JSON lines of detected events.
    """

    def __init__(self, options: HealthOptions, file: Path) -> None:
        self.options, self.file = options, file
        self._losses: deque[float] = deque(maxlen=options.window)
        self.skipped_in_a_row = 0

    def judge(self, loss: float, grad_norm: float) -> Verdict:
        """Judge an update; its loss enters the history unless something is wrong with it."""
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
    def exceeds_patience(self) -> bool:
        """Whether more consecutive updates were skipped than allowed."""
        return self.skipped_in_a_row > self.options.patience

    def record(self, record: StepRecord, verdict: Verdict, action: str, rows: Sequence[int], dataset: str) -> None:
        """Append a line with the event, the reaction, and the dataset rows that were in the step."""
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
