"""Progress bars that keep working when the wall clock is set back."""

from __future__ import annotations

import time
from collections.abc import Callable

import tqdm as library


class tqdm(library.tqdm):  # noqa: N801 - used in place of the library's
    """tqdm with a monotonic clock: the library's own shows nothing until the wall clock has caught up."""

    monitor_interval = 0  # its thread compares this bar's times with the wall clock

    @property
    def _time(self) -> Callable[[], float]:
        return time.monotonic

    @_time.setter
    def _time(self, clock: Callable[[], float]) -> None:
        """The library assigns its own clock here."""
