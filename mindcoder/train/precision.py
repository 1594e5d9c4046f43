"""Loss scaling for float16."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class LossScale:
    """Dynamic loss scale (Micikevicius et al. 2018): grows while gradients stay finite, shrinks on overflow.

    Attributes:
        value: the scale in use.
        factor: it is multiplied or divided by this; 1 keeps it fixed.
        window: finite updates in a row before it grows.
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
        """Take note of one update's gradients."""
        if not finite:
            self.value = max(self.value / self.factor, 1.0)
            self.finite_steps = 0
            return
        self.finite_steps += 1
        if self.factor > 1 and self.finite_steps >= self.window:
            self.value = min(self.value * self.factor, 2.0**32)
            self.finite_steps = 0
