"""Authentication, rate limits and size limits."""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections import OrderedDict
from dataclasses import dataclass

REMEMBERED = 10_000  # clients
WRONG_KEYS = 20  # per minute and client, independent of other limits


@dataclass(frozen=True)
class Limits:
    """Limits of the server.

    Attributes:
        api_key: required from clients; None admits everyone.
        max_waiting: queued answers beyond those computed together.
        per_minute: requests per client; None sets no limit.
        max_body: bytes per request.
        timeout: seconds after which an answer is cut off.
        request_tokens: of all answers to one request together.
        body_timeout: seconds within which a request must arrive.
    """

    api_key: str | None = None
    max_waiting: int = 256
    per_minute: int | None = None
    max_body: int = 1 << 20
    timeout: float = 600.0
    request_tokens: int = 1 << 20
    body_timeout: float = 30.0


class RateLimit:
    """A token bucket per client, refilled continuously.

    Args:
        per_minute: requests per client; None sets no limit.
    """

    def __init__(self, per_minute: int | None) -> None:
        self.per_minute = per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def blocked(self, client: str) -> float:
        """Seconds until the client may send a request; takes none."""
        if self.per_minute is None or client not in self._buckets:
            return 0.0
        rate = self.per_minute / 60
        left, seen = self._buckets[client]
        return max(0.0, (1 - left) / rate - (time.monotonic() - seen))

    def wait(self, client: str) -> float:
        """Take one request; returns 0, or the seconds until one is available."""
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


def client_name(address: str | None) -> str:
    """The client that a rate limit applies to: an address; for IPv6 its /64 network, which is what one customer
    gets.
    """
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def key_matches(header: str | None, api_key: str | None) -> bool:
    """Whether ``Authorization: Bearer KEY`` contains the key; always true if none is configured.

    Args:
        header: decoded as latin-1, as ASGI passes it.
    """
    if api_key is None:
        return True
    given = (header or "").strip()
    scheme, _, rest = given.partition(" ")
    if scheme.lower() == "bearer":
        given = rest.strip()
    return hmac.compare_digest(given.encode("latin-1", "replace"), api_key.encode())
