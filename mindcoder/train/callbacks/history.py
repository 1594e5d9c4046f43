"""The updates of a run, kept in memory."""

from __future__ import annotations

from mindcoder.train.callbacks.base import Callback, StepRecord


class History(Callback):
    """Collects every update.

    Attributes:
        records: in their order.
    """

    def __init__(self) -> None:
        self.records: list[StepRecord] = []

    def on_step(self, record: StepRecord) -> None:
        self.records.append(record)
