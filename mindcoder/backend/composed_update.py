"""CPU's AdamW: MindSpore's in-place Adam operator, eight times faster there than its AdamWeightDecay.

`mindcoder.backend.fused_update` holds the same class for Ascend.
"""

from __future__ import annotations

from typing import Literal

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

Correction = Literal["both", "rate", "none"]


class AdamWUpdate(nn.Cell):
    """One parameter's AdamW update in place.

    `scalars` is called once a step, ``construct`` once a parameter with what it gave.

    Args:
        beta1, beta2, eps: of Adam.
        correction: of the moments' bias, see `mindcoder.train.optimizer.AdamWOptions`.
    """

    def __init__(self, beta1: float, beta2: float, eps: float, correction: Correction) -> None:
        super().__init__(auto_prefix=False)
        self.beta1, self.beta2, self.eps, self.correction = beta1, beta2, eps, correction
        self.adam = ops.Adam()

    def scalars(self, steps: Tensor, learning_rate: Tensor) -> tuple:
        """What all parameters share, from the count of updates and the learning rate (float32 scalars).

        Bias correction enters through the learning rate and epsilon, which makes the result PyTorch's
        ``torch.optim.AdamW`` up to rounding.
        """
        first_correction = 1.0 - ops.pow(Tensor(self.beta1, ms.float32), steps)
        second_correction = ops.sqrt(1.0 - ops.pow(Tensor(self.beta2, ms.float32), steps))
        corrected_rate = learning_rate * second_correction / first_correction
        epsilon = self.eps * second_correction
        if self.correction != "both":
            epsilon = Tensor(self.eps, ms.float32)
        if self.correction == "none":
            corrected_rate = learning_rate
        return learning_rate, corrected_rate, epsilon, Tensor(1.0, ms.float32) * 0.0

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
        """Update ``weight`` and its moments, all float32; gives what has to be waited for.

        Args:
            gradient: float32.
            scalars: of `scalars`.
            decay: decoupled weight decay per learning rate; 0 for none.
            ratio: this parameter's learning rate ÷ the step's.
            last: of the parameter before.
        """
        learning_rate, corrected_rate, epsilon, zero = scalars
        if decay > 0:
            kept = 1.0 - learning_rate * (decay * ratio)
            gradient = ops.depend(gradient, ops.assign(weight, weight * ops.depend(kept, last)))
        return self.adam(  # beta powers of zero switch the operator's own correction off
            weight,
            first_moment,
            second_moment,
            zero,
            zero,
            corrected_rate if ratio == 1.0 else corrected_rate * ratio,
            Tensor(self.beta1, ms.float32),
            Tensor(self.beta2, ms.float32),
            epsilon,
            gradient,
        )
