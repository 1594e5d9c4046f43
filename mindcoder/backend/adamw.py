"""AdamW as one operator a parameter: aclnnApplyAdamWV2."""

from __future__ import annotations

from typing import Literal

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.operator_source import operator

Correction = Literal["both", "rate", "none"]
UNCORRECTED_STEP = 1e9  # the operator divides by 1 - beta ** step, which is 1 then


class AdamWUpdate(nn.Cell):
    """One parameter's AdamW update in place.

    `scalars` is called once a step, ``construct`` once a parameter with what it gave. The operator takes its rate on
    the host. Reading it back waits for the device once a step, where the step waits anyway to see whether the gradient
    is finite.

    Args:
        beta1, beta2, eps: of Adam.
        correction: of the moments' bias, see `mindcoder.train.optimizer.AdamWOptions`.
    """

    def __init__(self, beta1: float, beta2: float, eps: float, correction: Correction) -> None:
        super().__init__(auto_prefix=False)
        self.beta1, self.beta2, self.eps, self.correction = beta1, beta2, eps, correction
        self.adamw, self.to_host = operator("AdamW"), operator("TensorToScalar")

    def scalars(self, steps: Tensor, learning_rate: Tensor) -> tuple:
        """What all parameters share, from the count of updates and the learning rate (float32 scalars)."""
        if self.correction == "both":
            # The kernel counts this update itself (CANN ops-nn, apply_adam_w_v2: "step_ += 1"; mindspore.mint's AdamW
            # gives 0 at the first update, too).
            return learning_rate, learning_rate, (ops.cast(steps, ms.float32) - 1.0).reshape((1,))
        corrected_rate = learning_rate
        if self.correction == "rate":
            first_correction = 1.0 - ops.pow(Tensor(self.beta1, ms.float32), steps)
            second_correction = ops.sqrt(1.0 - ops.pow(Tensor(self.beta2, ms.float32), steps))
            corrected_rate = learning_rate * second_correction / first_correction
        return learning_rate, corrected_rate, Tensor([UNCORRECTED_STEP], ms.float32)

    def construct(
        self,
        weight: Parameter,
        first_moment: Parameter,
        second_moment: Parameter,
        gradient: Tensor,
        scalars: tuple,
        decay: float,
        ratio: float,
        last: Tensor,
    ) -> Tensor:
        """Update ``weight`` and its moments, all float32; returns what later operations depend on.

        Args:
            gradient: float32.
            scalars: of `scalars`.
            decay: decoupled weight decay per learning rate; 0 for none.
            ratio: this parameter's learning rate ÷ the step's.
            last: of the parameter before.
        """
        learning_rate, corrected_rate, steps = scalars
        own_rate = corrected_rate if ratio == 1.0 else corrected_rate * ratio
        # The operator decays by its rate, which must not have the correction.
        own_decay = decay if self.correction == "both" else self.to_host(learning_rate / corrected_rate * decay)
        updated = self.adamw(
            *(weight, first_moment, second_moment, second_moment, ops.depend(gradient, last), steps),
            *(self.to_host(own_rate), self.beta1, self.beta2, own_decay, self.eps, False, False),
        )
        return updated[0]
