"""Connections with deadlines, against clients that send nothing, or a byte now and then."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

RESERVED_FILES = 64  # file descriptors that are not connections
LATE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

log = logging.getLogger(__name__)


class Connection(H11Protocol):
    """uvicorn's connection with timeouts; its own waits forever for a request's headers and body.

    Attributes:
        header_seconds: from the opening of a connection, or the last response, to the end of the next headers.
        body_seconds: from there to the end of the body.
        most: maximum number of connections; more are closed at once.
    """

    header_seconds = 10.0
    body_seconds = 30.0
    most = 1024

    _deadline: asyncio.TimerHandle | None = None
    _awaited: Any = None  # h11's client state that the deadline applies to

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
            return
        _notice_vanished_peers(transport.get_extra_info("socket"))
        self._set_deadline()

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except h11.ProtocolError:  # uvicorn answers garbage after a response with a second one, which h11 refuses
            self.transport.abort()
        self._set_deadline()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_deadline()
        super().connection_lost(exc)

    def _set_deadline(self) -> None:
        """Set a deadline for what the client still has to send; partial data do not extend it."""
        state = self.conn.their_state
        if self.transport.is_closing() or state not in (h11.IDLE, h11.SEND_BODY):
            self._clear_deadline()
            return
        if self._deadline is not None and self._awaited is state:
            return
        self._clear_deadline()
        self._awaited = state
        seconds = self.header_seconds if state is h11.IDLE else self.body_seconds
        self._deadline = self.loop.call_later(seconds, self._too_late)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline, self._awaited = None, None

    def _too_late(self) -> None:
        if self.conn.our_state is h11.IDLE or (
            self.conn.our_state is h11.SEND_RESPONSE and not self.cycle.response_started
        ):
            self.transport.write(LATE)
            self.conn.send_failed()
        self.transport.close()


def connection_kind(header_seconds: float, body_seconds: float, most: int) -> type[Connection]:
    """`Connection` with these limits; uvicorn creates its connections from a class."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    limits = {
        "header_seconds": header_seconds,
        "body_seconds": body_seconds,
        "most": max(1, min(most, files - RESERVED_FILES)),
    }
    return type("LimitedConnection", (Connection,), limits)


def _notice_vanished_peers(connected: socket.socket | None) -> None:
    """Enable TCP keepalive, so that the kernel detects peers that vanish without closing."""
    if connected is None or connected.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", 30),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 60_000),
    ):
        if hasattr(socket, option):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
