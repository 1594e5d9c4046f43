"""Pipeline parallelism: the order of one-forward-one-backward (Narayanan et al. 2019, PipeDream-Flush).

Each stage runs its compiled graphs and sends hidden states to the next stage, gradients to the one before. Stage s has
at most ``stages - s`` micro batches under way, whatever their number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Link(Protocol[T]):
    """Way to a neighbouring stage."""

    def exchange(self, sent: T | None, receives: bool) -> T | None:
        """Send ``sent`` unless None and receive, if asked to."""


class OneForwardOneBackward(Generic[T]):
    """Runs one step of a stage.

    Args:
        stage, stages: this stage's index, and how many there are.
        previous: way to the stage before; None on the first.
        following: way to the next one; None on the last.
    """

    def __init__(self, stage: int, stages: int, previous: Link[T] | None, following: Link[T] | None) -> None:
        self.stage, self.stages = stage, stages
        self.previous, self.following = previous, following

    def run(
        self,
        micro_batches: int,
        forward: Callable[[int, T | None], T],
        backward: Callable[[int, T | None, T | None], T],
    ) -> None:
        """Forward and backward of all micro batches.

        Args:
            forward: of (micro batch, hidden states that enter; None on the first stage) returns those that leave. Not
                called on the last stage, whose backward does both.
            backward: of (micro batch, hidden states that entered, gradient of those that left; None on the last stage)
                returns the gradient of those that entered.
        """
        under_way: list[T | None] = []  # hidden states that entered, oldest micro batch first
        ahead = min(self.stages - 1 - self.stage, micro_batches)

        def go_forward(index: int, entered: T | None) -> T | None:
            under_way.append(entered)
            return forward(index, entered) if self.following is not None else None

        def go_back(index: int, gradient: T | None) -> T:
            return backward(index, under_way.pop(0), gradient)

        for index in range(ahead):
            _exchange(self.following, go_forward(index, _exchange(self.previous, None, True)), False)
        entered = _exchange(self.previous, None, True) if ahead < micro_batches else None
        for index in range(ahead, micro_batches):
            gradient = _exchange(self.following, go_forward(index, entered), True)
            back = go_back(index - ahead, gradient)
            # Without a micro batch left to come, only the gradient goes.
            entered = _exchange(self.previous, back, index + 1 < micro_batches)
        for index in range(micro_batches - ahead, micro_batches):
            _exchange(self.previous, go_back(index, _exchange(self.following, None, True)), False)


def _exchange(link: Link[T] | None, sent: T | None, receives: bool) -> T | None:
    return None if link is None else link.exchange(sent, receives)
