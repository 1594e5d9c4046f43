"""Foreign hosts and pages, and what browsers are told."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI

from mindcoder.serve.origins import Names, OnlyOwnNames


def ask(names: Names, method="GET", **headers) -> httpx.Response:
    app = FastAPI()
    app.add_middleware(OnlyOwnNames, names=names)

    @app.api_route("/", methods=["GET", "POST"])
    async def answer() -> dict:
        return {}

    async def send():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8000") as http:
            return await http.request(method, "/", headers=headers)

    return asyncio.run(send())


@pytest.mark.parametrize(
    "bound, host, allowed",
    [
        ("127.0.0.1", "localhost:8000", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "[::1]:8000", True),
        ("127.0.0.1", "LOCALHOST.", True),
        ("127.0.0.1", "evil.example", False),
        ("127.0.0.1", "localhost.evil.example", False),
        ("127.0.0.1", "192.168.1.2:8000", False),
        ("127.0.0.1", "localhost@evil.example", False),
        ("127.0.0.1", "localhost/evil", False),
        ("127.0.0.1", "localhost:80:80", False),
        ("127.0.0.1", "", False),
        ("0.0.0.0", "192.168.1.2:8000", True),
        ("0.0.0.0", "evil.example", False),
        ("10.0.0.5", "10.0.0.5:8000", True),
        ("10.0.0.5", "10.0.0.6:8000", False),
    ],
)
def test_hosts(bound, host, allowed):
    assert Names.of(bound).has_host(host) == allowed
    if host:
        assert ask(Names.of(bound), host=host).status_code == (200 if allowed else 403)


def test_more_names_can_be_allowed():
    assert Names.of("127.0.0.1", ["Chat.Example"]).has_host("chat.example:443")
    assert Names.of("127.0.0.1", ["*"]).has_host("whatever.example")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9999", "file://", "x", "http://["])
def test_pages_of_other_sites_may_not_ask(origin):
    for method in ("GET", "POST", "OPTIONS"):
        refused = ask(Names.of("127.0.0.1"), method, origin=origin)
        assert refused.status_code == 403 and "access-control-allow-origin" not in refused.headers
        assert "--allowed_origin" in refused.json()["error"]["message"]


def test_our_own_page_may():
    assert ask(Names.of("127.0.0.1"), origin="http://localhost:8000").status_code == 200
    assert ask(Names.of("127.0.0.1"), origin="https://localhost:8000").status_code == 200  # a proxy took TLS off


def test_an_allowed_site_is_told_so():
    names = Names.of("127.0.0.1", origins=["https://chat.example"])
    answer = ask(names, origin="https://chat.example")
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "https://chat.example"
    preflight = ask(names, "OPTIONS", **{"origin": "https://chat.example", "access-control-request-method": "POST"})
    assert preflight.status_code == 204 and "authorization" in preflight.headers["access-control-allow-headers"]
    assert ask(names, origin="https://chat.example.evil").status_code == 403


def test_every_answer_says_what_browsers_may_do():
    for answer in (ask(Names.of("127.0.0.1")), ask(Names.of("127.0.0.1"), host="evil.example")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["x-frame-options"] == "DENY"
