"""Binds an address and runs the server."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn

from mindcoder.errors import UserError
from mindcoder.serve.connections import connection_kind
from mindcoder.serve.limits import Limits
from mindcoder.serve.origins import HEADER_BYTES

MOST_CONNECTIONS = 1024
HEADER_SECONDS = 10.0
GRACE = 5  # seconds for open answers on shutdown


def bind(host: str, port: int) -> socket.socket:
    """Bind the address before the model is loaded; clients can connect only once it listens.

    Raises:
        UserError: the name is unknown, or the address is in use or forbidden.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, ValueError) as error:
        raise UserError(f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}") from None
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return taken


def run(app: Any, taken: socket.socket, limits: Limits, proxy: str | None = None) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        taken: from `bind`.
        proxy: address of a trusted proxy whose ``X-Forwarded-For`` is used.
    """
    config = uvicorn.Config(
        app,
        http=connection_kind(HEADER_SECONDS, limits.body_timeout, MOST_CONNECTIONS),
        ws="none",
        log_level="warning",
        timeout_graceful_shutdown=GRACE,
        h11_max_incomplete_event_size=HEADER_BYTES,
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[taken])
