"""AdamW with one in-place operator per parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.adamw import AdamWUpdate, Correction
from mindcoder.backend.row_operators import Assign, AssignAdd, ReadAfter


def _zeros_like(prefix: str, parameters: Sequence[Parameter]) -> ms.ParameterTuple:
    """A float32 state for each parameter."""
    zeros = ms.common.initializer.initializer
    return ms.ParameterTuple(
        [
            Parameter(zeros("zeros", item.shape, ms.float32), name=f"{prefix}.{item.name}", requires_grad=False)
            for item in parameters
        ]
    )


@dataclass(frozen=True)
class AdamWOptions:
    """Hyperparameters of AdamW (Loshchilov and Hutter 2019), with PyTorch's meaning.

    Attributes:
        correction: bias correction of the moments. both: of each moment, as PyTorch and MindFormers' AdamW. rate:
            folded into the learning rate, so that eps is not scaled (the end of section 2 of Kingma and Ba 2015;
            MindFormers' AdamWeightDecayX). none: as MindSpore's AdamWeightDecay, whose first steps are larger.
    """

    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.01
    correction: Correction = "both"


def decays(parameter: Parameter) -> bool:
    """Whether weight decay applies: to matrices, not to biases and norms, which have one axis."""
    return len(parameter.shape) > 1


class AdamW(nn.Cell):
    """Updates parameters from their gradients; one call per step.

    The device's `AdamWUpdate` works in place; the result equals PyTorch's ``torch.optim.AdamW`` up to rounding
    (`AdamWOptions.correction` selects other definitions). Parameters stored in float16 or bfloat16 get a
    float32 master copy, so that small updates are not lost.

    Args:
        parameters: the trainable parameters, in the order of the gradients.
        options: hyperparameters.
        owned: which of them this rank updates; the others come from the rank that owns them (ZeRO-1).
        spread: all-reduce over the ranks that divide the parameters; required with ``owned``.
        rate_ratios: learning rate of each parameter relative to the call's; all 1 by default.
    """

    def __init__(
        self,
        parameters: ms.ParameterTuple,
        options: AdamWOptions,
        owned: Sequence[bool] | None = None,
        spread: nn.Cell | None = None,
        rate_ratios: Sequence[float] | None = None,
    ) -> None:
        super().__init__(auto_prefix=False)
        self.parameters = parameters
        self.options = options
        self.owned = tuple(owned) if owned is not None else (True,) * len(parameters)
        self.spread = spread
        self.rate_ratios = tuple(rate_ratios) if rate_ratios is not None else (1.0,) * len(parameters)
        numbers = iter(range(len(parameters)))
        self.slots = tuple(next(numbers) if own else -1 for own in self.owned)
        own_parameters = [parameter for parameter, own in zip(parameters, self.owned) if own]
        self.first_moment = _zeros_like("adam_m", own_parameters)
        self.second_moment = _zeros_like("adam_v", own_parameters)
        self.decays = tuple(float(options.weight_decay) if decays(parameter) else 0.0 for parameter in parameters)
        self.has_master = tuple(item.dtype != ms.float32 and own for item, own in zip(parameters, self.owned))
        self.master = ms.ParameterTuple(
            [
                Parameter(ops.cast(parameter, ms.float32), name=f"master.{parameter.name}") if has_master else parameter
                for parameter, has_master in zip(parameters, self.has_master)
            ]
        )
        self.steps = Parameter(Tensor(0.0, ms.float32), name="adam_steps", requires_grad=False)
        self.update = AdamWUpdate(options.beta1, options.beta2, options.eps, options.correction)
        self.assign, self.assign_add, self.read_after = Assign(), AssignAdd(), ReadAfter()

    def state(self) -> dict[str, Parameter]:
        """State to save in a checkpoint, by name (master weights only where they differ from the parameter)."""
        masters = [master for master, has_master in zip(self.master, self.has_master) if has_master]
        return {item.name: item for item in (*self.first_moment, *self.second_moment, *masters, self.steps)}

    def construct(self, gradients: tuple, factor: Tensor, learning_rate: Tensor) -> Tensor:
        """Apply ``factor * gradients`` at ``learning_rate`` (float32 scalars); returns the number of updates so far."""
        steps = self.assign_add(self.steps, Tensor(1.0, ms.float32))
        scalars = self.update.scalars(steps, learning_rate)
        one = Tensor(1.0, ms.float32)
        # opaque to the compiler, which would otherwise keep a constant per shape
        zero = ops.cast(steps < 0.0, ms.float32)
        updated = steps
        for index in range(len(self.parameters)):
            parameter = self.parameters[index]
            if self.owned[index]:
                # One parameter after the other, so that only one scaled gradient is alive at a time.
                gradient = ops.cast(ops.depend(gradients[index], updated), ms.float32) * factor
                weight, slot = self.master[index], self.slots[index]
                updated = self.update(
                    *(weight, self.first_moment[slot], self.second_moment[slot], gradient, scalars),
                    *(self.decays[index], self.rate_ratios[index], updated),
                )
                if self.has_master[index]:
                    updated = self.assign(parameter, ops.cast(self.read_after(weight, updated), parameter.dtype))
            if self.spread is not None:
                # All but the owner add zeros: a broadcast for backends without one inside a graph.
                value = self.read_after(parameter, updated) * ops.cast(
                    one if self.owned[index] else zero, parameter.dtype
                )
                updated = self.assign(parameter, self.spread(ops.depend(value, updated)))
        return ops.depend(steps, updated)
