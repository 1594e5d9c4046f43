"""Which host names and origins a server answers to, and its security headers for browsers.

A page of another site can make its visitor's browser send requests to a server on this machine: by address (then
``Origin`` names the page) or by a name of its own that it resolves to here (DNS rebinding; then ``Host`` is that name).
Both are refused.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mindcoder.serve.errors import INVALID, error_body

HEADER_BYTES = 16 << 10  # of the request line and headers
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
ANY = "*"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
SECURITY_HEADERS = tuple(
    (name.encode(), value.encode())
    for name, value in (
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
        ("cache-control", "no-store"),
    )
)

PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"authorization, content-type"),
)


@dataclass(frozen=True)
class Names:
    """What a server answers to.

    Attributes:
        hosts: names and addresses allowed in ``Host``, without ports; ``*`` allows any.
        origins: pages of other sites that may send requests, such as ``https://chat.example``; ``*`` allows any.
        addresses: whether any IP address is allowed too (for a server that listens on all addresses).
    """

    hosts: frozenset[str]
    origins: frozenset[str] = frozenset()
    addresses: bool = False

    @classmethod
    def of(cls, bound: str, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> Names:
        """Names of a server bound to the address ``bound``, plus those allowed explicitly."""
        everywhere = bound in ("0.0.0.0", "::", "")
        own = {bound.lower()} | ({socket.gethostname().lower(), socket.getfqdn().lower()} if everywhere else set())
        return cls(LOCAL_NAMES | own | {host.lower() for host in hosts}, frozenset(origins), everywhere)

    def has_host(self, header: str) -> bool:
        """Whether ``Host: name[:port]`` is one of ours."""
        name = _host_name(header)
        if name is None:
            return False
        return ANY in self.hosts or name in self.hosts or (self.addresses and _is_address(name))

    def has_origin(self, origin: str, host: str) -> bool:
        """Whether a page of ``origin`` may send requests: ours, or an allowed one."""
        return ANY in self.origins or origin in self.origins or is_same(origin, host)


class OnlyOwnNames:
    """ASGI middleware: refuses foreign hosts and origins, long headers and duplicate lengths; sets security headers.

    Args:
        names: None refuses nothing (for an application that was opened up deliberately).
    """

    def __init__(self, app: Any, names: Names | None) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        extra = list(SECURITY_HEADERS)

        async def sending(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                present = {key.lower() for key, _ in message.get("headers", ())}
                added = [item for item in extra if item[0] not in present]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        size = sum(len(key) + len(value) for key, value in scope["headers"]) + len(scope.get("raw_path") or b"")
        too_long = size + len(scope["query_string"]) > HEADER_BYTES
        refusal = f"headers of more than {HEADER_BYTES} bytes" if too_long else self._refusal(host, origin)
        if b"content-length" in headers and b"transfer-encoding" in headers:
            # RFC 9112, 6.3: a proxy in front may have seen another end of the body, and another request after it
            extra.append((b"connection", b"close"))
            body = json.dumps(error_body("Content-Length and Transfer-Encoding exclude one another", INVALID)).encode()
            await _answer(sending, 400, body)
            return
        if refusal is not None:
            body = json.dumps(error_body(refusal, INVALID)).encode()
            await _answer(sending, 431 if too_long else 403, body)
            return
        if self.names is not None and origin is not None and not is_same(origin, host):
            extra += [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                extra += PREFLIGHT
                await _answer(sending, 204, b"")
                return
        await self.app(scope, receive, sending)

    def _refusal(self, host: str, origin: str | None) -> str | None:
        if self.names is None:
            return None
        if not self.names.has_host(host):
            return f"the host {host[:100]!r} is not one of this server's (--allowed_host)"
        if origin is not None and not self.names.has_origin(origin, host):
            return f"pages of {origin[:100]!r} may not ask (--allowed_origin)"
        return None


async def _answer(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())] if body else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _host_name(header: str) -> str | None:
    """The name in ``name``, ``name:port``, ``[::1]:port``; None for anything else."""
    try:
        parsed = urlsplit(f"//{header}")
        parsed.port  # noqa: B018 - raises where it is none
    except ValueError:
        return None
    if parsed.path or parsed.query or parsed.fragment or parsed.username is not None or not parsed.hostname:
        return None
    return parsed.hostname.rstrip(".")


def is_same(origin: str, host: str) -> bool:
    """Whether ``Origin`` is the server itself according to ``Host``; a proxy may have terminated TLS."""
    try:
        parsed = urlsplit(origin)
    except ValueError:
        return False
    return parsed.scheme in ("http", "https") and bool(host) and parsed.netloc.lower() == host.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
