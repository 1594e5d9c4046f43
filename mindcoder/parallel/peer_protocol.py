"""What the launchers of several servers say to each other: lines of JSON over TCP, after each has proved itself.

The key is derived from the rank table (and ``MINDCODER_JOB_SECRET`` where it is set, the same on all servers), so a
stranger's connection, or a launcher with another table, is not let in. The proof is an HMAC of the other side's random
number; the key itself never travels.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
from dataclasses import dataclass, field
from typing import Any

from mindcoder.parallel.rank_table import RankTable

SECRET_VARIABLE = "MINDCODER_JOB_SECRET"
LINE_LIMIT = 4096  # bytes; ours have a few hundred
BACKLOG_LIMIT = 1 << 20  # bytes that the other side may leave unread


class BadPeer(Exception):
    """The other side does not speak as a launcher does."""


def job_key(table: RankTable) -> bytes:
    """The key of a job: launchers with the same rank table have the same."""
    text = json.dumps(table.as_dict(), sort_keys=True) + os.environ.get(SECRET_VARIABLE, "")
    return hashlib.sha256(b"mindcoder launch 1\n" + text.encode()).digest()


def prove(key: bytes, role: str, challenge: str, *facts: object) -> str:
    """The answer to a challenge, bound to who gives it and what it says of itself."""
    return hmac.new(key, json.dumps([role, challenge, *facts]).encode(), hashlib.sha256).hexdigest()


def is_proof(given: object, expected: str) -> bool:
    """Compare without telling by the time it takes how much is right."""
    return isinstance(given, str) and given.isascii() and hmac.compare_digest(given, expected)


@dataclass
class Link:
    """A connection to another launcher.

    Attributes:
        socket: non-blocking.
        challenge: the random number that the other side is to answer.
        index: the other's server in the table; None until it has proved itself.
        identity: random number of the other launcher, the same when it connects again.
        heard_at: when something last came, on the monotonic clock.
    """

    socket: socket.socket
    heard_at: float
    challenge: str = field(default_factory=lambda: os.urandom(16).hex())
    index: int | None = None
    identity: str = ""
    _incoming: bytes = b""
    _outgoing: bytes = b""

    def put(self, **message: Any) -> None:
        """Send a message as soon as the other side takes it.

        Raises:
            OSError: the connection is broken.
            BadPeer: the other side does not read.
        """
        self._outgoing += json.dumps(message).encode() + b"\n"
        if len(self._outgoing) > BACKLOG_LIMIT:
            raise BadPeer("does not read what it is sent")
        self.flush()

    def flush(self) -> None:
        """Send what is waiting, as far as it goes now."""
        while self._outgoing:
            try:
                sent = self.socket.send(self._outgoing)
            except BlockingIOError:
                return
            self._outgoing = self._outgoing[sent:]

    @property
    def waits(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._outgoing)

    def take(self) -> list[dict[str, Any]]:
        """The messages that have come.

        Raises:
            OSError: the connection is broken, or closed by the other side.
            BadPeer: what came is no message.
        """
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionResetError("closed by the other side")
        *lines, self._incoming = (self._incoming + data).split(b"\n")
        if len(self._incoming) > LINE_LIMIT or any(len(line) > LINE_LIMIT for line in lines):
            raise BadPeer("sends lines that are too long")
        messages = []
        for line in lines:
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                raise BadPeer("sends something else than messages") from None
            if not isinstance(message, dict):
                raise BadPeer("sends something else than messages")
            messages.append(message)
        return messages

    def close(self) -> None:
        """End it."""
        self.socket.close()
