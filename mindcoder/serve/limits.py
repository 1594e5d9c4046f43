"""Who may ask, how often, and how much."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict

REMEMBERED = 10_000  # clients


class RateLimit:
    """A bucket of requests for each client, refilled evenly.

    Args:
        per_minute: requests a client may make; None sets no limit.
    """

    def __init__(self, per_minute: int | None) -> None:
        self.per_minute = per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Take one request; 0, or the seconds until there would be one."""
        if self.per_minute is None:
            return 0.0
        now, rate = time.monotonic(), self.per_minute / 60
        left, seen = self._buckets.pop(client, (float(self.per_minute), now))
        left = min(self.per_minute, left + (now - seen) * rate)
        allowed = left >= 1
        self._buckets[client] = (left - allowed, now)
        while len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) / rate


def key_matches(header: str | None, api_key: str | None) -> bool:
    """Whether ``Authorization: Bearer KEY`` holds the key; anything does where none is set."""
    if api_key is None:
        return True
    given = (header or "").removeprefix("Bearer ").strip()
    return hmac.compare_digest(given.encode(), api_key.encode())
