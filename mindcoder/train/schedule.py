"""Learning rate by step.

The formulas are those of MindFormers 1.9 (mindformers/core/lr/lr_schedule.py); tests compare every step with its
classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "constant", "linear", "cosine", "restarts", "polynomial", "wsd", "cooldown", "annealing", "warm_restarts"
]


@dataclass(frozen=True)
class Schedule:
    """Warmup from ``start`` to ``peak``, then as ``kind`` says.

    Attributes:
        kind: constant; linear decay to ``end`` at ``total_steps``; cosine: ``cycles`` waves over ``total_steps``, where
            0.5 is one descent; restarts: ``cycles`` cosine descents with hard restarts; polynomial of exponent
            ``power``; wsd (warmup, stable, decay: Hu et al. 2024, MiniCPM): constant until ``decay_start``, then
            linear to ``end``; cooldown (DeepSeek-V3, section 4.2): ``keep_steps`` at the peak, ``decay_steps`` of
            cosine down to ``end``, ``final_steps`` there, then ``last``; annealing (SGDR, Loshchilov and Hutter 2017):
            cosine of period 2 ``decay_steps``; warm_restarts: descents with restarts, each ``stretch`` times longer.
        peak: highest rate.
        total_steps: updates of the whole run.
        warmup_steps: updates of the linear warmup.
        start: rate of the first update if there is a warmup.
        end: rate after the decay.
        decay_start: first update of the decay (wsd).
        decay_steps: cosine and restarts: the update from which the rate is ``end``; else the length of the decay. 0
            means ``total_steps`` (polynomial: what remains of it after the warmup).
        cycles, power, keep_steps, final_steps, last, stretch: see ``kind``.
    """

    kind: Kind
    peak: float
    total_steps: int
    warmup_steps: int = 0
    start: float = 0.0
    end: float = 0.0
    decay_start: int = 0
    decay_steps: int = 0
    cycles: float = 0.5
    power: float = 1.0
    keep_steps: int = 0
    final_steps: int = 0
    last: float = 0.0
    stretch: int = 1

    def at(self, step: int) -> float:
        """Rate of update ``step``, counted from 0."""
        if self.kind in ("cosine", "restarts") and step >= (self.decay_steps or self.total_steps):
            return self.end
        if step < self.warmup_steps:
            return self.start + (self.peak - self.start) * step / self.warmup_steps
        if self.kind == "constant":
            return self.peak
        if self.kind == "cooldown":
            return self._cooldown(step)
        share = self._share(step)
        return self.end + (self.peak - self.end) * share

    def _share(self, step: int) -> float:
        """Position between ``end`` (0) and ``peak`` (1)."""
        after = step - self.warmup_steps
        progress = after / max(self.total_steps - self.warmup_steps, 1)
        if self.kind == "cosine":
            return _wave(2.0 * self.cycles * progress)
        if self.kind == "restarts":
            return _wave(self.cycles * progress % 1.0) if progress < 1.0 else -self.end / (self.peak - self.end)
        if self.kind == "polynomial":
            if step > self.total_steps:
                return 0.0
            length = self.decay_steps or max(self.total_steps - self.warmup_steps, 1)
            return max(1.0 - after / length, 0.0) ** self.power
        if self.kind == "wsd":
            if step < self.decay_start:
                return 1.0
            return 1.0 - min((step - self.decay_start) / max(self.total_steps - self.decay_start, 1), 1.0)
        if self.kind == "annealing":
            return _wave(step / self.decay_steps)
        if self.kind == "warm_restarts":
            return self._restarted(step)
        return max(1.0 - progress, 0.0)

    def _restarted(self, step: int) -> float:
        """Warm restarts: progress within the descent that contains ``step``."""
        length = self.decay_steps
        if self.stretch == 1:
            return _wave(step % length / length)
        while step >= length:
            step, length = step - length, length * self.stretch
        return _wave(step / length)

    def _cooldown(self, step: int) -> float:
        step -= self.warmup_steps + self.keep_steps
        length = self.decay_steps or self.total_steps
        if step < 0:
            return self.peak
        if step < length:
            return self.end + (self.peak - self.end) * _wave(2.0 * self.cycles * step / length)
        return self.end if step < length + self.final_steps else self.last


def _wave(halves: float) -> float:
    """1 at 0, 0 at 1, 1 again at 2: a cosine of that many half waves."""
    return 0.5 * (1.0 + math.cos(math.pi * halves))
