"""Loss scaling for float16."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class LossScale:
    """Dynamic loss scale (Micikevicius et al. 2018): grows while gradients stay finite, shrinks on overflow.

    Attributes:
        value: current scale.
        factor: growth and backoff factor; 1 keeps the scale fixed.
        window: consecutive finite updates before it grows.
        finite_steps: finite updates since the last change.
    """

    value: float = 1.0
    factor: int = 1
    window: int = 1000
    finite_steps: int = 0

    @property
    def scales(self) -> bool:
        """Whether the loss is scaled at all."""
        return self.value != 1.0 or self.factor > 1

    def update(self, finite: bool) -> None:
        """Record whether one update's gradients were finite."""
        if not finite:
            self.value = max(self.value / self.factor, 1.0)
            self.finite_steps = 0
            return
        self.finite_steps += 1
        if self.factor > 1 and self.finite_steps >= self.window:
            self.value = min(self.value * self.factor, 2.0**32)
            self.finite_steps = 0
