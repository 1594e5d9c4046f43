"""Learning rate by step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["constant", "linear", "cosine", "wsd"]


@dataclass(frozen=True)
class Schedule:
    """Warm-up from ``start`` to ``peak``, then what ``kind`` says.

    Attributes:
        kind: constant; linear or cosine decay to ``end`` at ``total_steps``; wsd (warm-up, stable, decay: Hu et al.
            2024, MiniCPM): constant until ``decay_start``, then linear to ``end``.
        peak: highest rate.
        total_steps: updates of the whole run.
        warmup_steps: updates of the linear warm-up.
        start: rate of the first update when there is a warm-up.
        end: rate at ``total_steps``.
        decay_start: first update of the decay (wsd).
    """

    kind: Kind
    peak: float
    total_steps: int
    warmup_steps: int = 0
    start: float = 0.0
    end: float = 0.0
    decay_start: int = 0

    def at(self, step: int) -> float:
        """Rate of the update number ``step``, counted from 0."""
        if step < self.warmup_steps:
            return self.start + (self.peak - self.start) * step / self.warmup_steps
        if self.kind == "constant":
            return self.peak
        begin = max(self.decay_start, self.warmup_steps) if self.kind == "wsd" else self.warmup_steps
        if step < begin:
            return self.peak
        progress = min((step - begin) / max(self.total_steps - begin, 1), 1.0)
        if self.kind == "cosine":
            progress = 0.5 - 0.5 * math.cos(math.pi * progress)
        return self.peak + (self.end - self.peak) * progress
