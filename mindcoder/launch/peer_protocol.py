"""Protocol between the launchers of several servers: lines of JSON over TCP, after mutual authentication.

The key is derived from the rank table and, if it is set, ``MINDCODER_JOB_SECRET`` (the same text on all servers), so
that strangers and launchers with another table are rejected. The proof is an HMAC of the other side's random challenge;
the key itself is never sent.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
from dataclasses import dataclass, field
from typing import Any

from mindcoder.launch.rank_table import RankTable

SECRET_VARIABLE = "MINDCODER_JOB_SECRET"
LINE_LIMIT = 4096  # bytes; ours have a few hundred
BACKLOG_LIMIT = 1 << 20  # bytes of messages that the other side may leave unread


class BadPeer(Exception):
    """The other side violates the protocol."""


def job_key(table: RankTable) -> bytes:
    """Key of a job: the same for all launchers with the same rank table."""
    text = json.dumps(table.as_dict(), sort_keys=True) + os.environ.get(SECRET_VARIABLE, "")
    return hashlib.sha256(b"mindcoder launch 1\n" + text.encode()).digest()


def prove(key: bytes, role: str, challenge: str, *facts: object) -> str:
    """Response to a challenge, bound to the role of the sender and the facts it states about itself."""
    return hmac.new(key, json.dumps([role, challenge, *facts]).encode(), hashlib.sha256).hexdigest()


def is_proof(given: object, expected: str) -> bool:
    """Compare in constant time."""
    return isinstance(given, str) and given.isascii() and hmac.compare_digest(given, expected)


@dataclass
class Link:
    """A connection to another launcher.

    Attributes:
        socket: non-blocking.
        challenge: random number that the other side has to answer.
        index: of the other server in the table; None until it is authenticated.
        identity: random number of the other launcher, the same when it reconnects.
        heard_at: time of the last message, on the monotonic clock.
    """

    socket: socket.socket
    heard_at: float
    challenge: str = field(default_factory=lambda: os.urandom(16).hex())
    index: int | None = None
    identity: str = ""
    _incoming: bytes = b""
    _outgoing: bytes = b""

    def put(self, **message: Any) -> None:
        """Queue a message and send as much as the socket accepts.

        Raises:
            OSError: the connection is broken.
            BadPeer: the other side does not read.
        """
        self._outgoing += json.dumps(message).encode() + b"\n"
        if len(self._outgoing) > BACKLOG_LIMIT:
            raise BadPeer("does not read what it is sent")
        self.flush()

    def flush(self) -> None:
        """Send queued bytes until the socket would block."""
        while self._outgoing:
            try:
                sent = self.socket.send(self._outgoing)
            except BlockingIOError:
                return
            self._outgoing = self._outgoing[sent:]

    @property
    def waits(self) -> bool:
        """Whether bytes are still queued."""
        return bool(self._outgoing)

    def take(self) -> list[dict[str, Any]]:
        """Receive messages.

        Raises:
            OSError: the connection is broken, or closed by the other side.
            BadPeer: the bytes are not messages.
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
                raise BadPeer("sends something other than messages") from None
            if not isinstance(message, dict):
                raise BadPeer("sends something other than messages")
            messages.append(message)
        return messages

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()
