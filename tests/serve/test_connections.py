"""Deadlines and numbers of connections, on real sockets and a small application."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest
import uvicorn

from mindcoder.serve.connections import connection_kind
from mindcoder.serve.listen import bind
from mindcoder.serve.origins import HEADER_BYTES

HEADERS, BODY, MOST = 0.6, 0.6, 6


async def echo(scope, receive, send):
    """Gives the body's length; says nothing to a client that leaves."""
    if scope["type"] != "http":
        return
    length, message = 0, {"more_body": True}
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message["body"])
    body = str(length).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port():
    taken = bind("127.0.0.1", 0)
    kind = connection_kind(HEADERS, BODY, MOST)
    config = uvicorn.Config(
        echo, http=kind, ws="none", lifespan="off", log_level="critical", h11_max_incomplete_event_size=HEADER_BYTES
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server._serve([taken])), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield taken.getsockname()[1]
    server.should_exit = True
    thread.join(10)
    taken.close()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def rest(client: socket.socket) -> bytes:
    """What comes until the server closes; fails where it does not."""
    answer = b""
    try:
        while piece := client.recv(65536):
            answer += piece
    except ConnectionResetError:
        pass
    client.close()
    return answer


def dripping(client: socket.socket, sent: bytes, piece: bytes) -> bytes:
    """A byte now and then does not move the deadline."""
    client.sendall(sent)
    try:
        for _ in range(100):
            time.sleep(0.1)
            client.sendall(piece)
    except OSError:
        return rest(client)
    raise AssertionError("the connection was held open for ten seconds")


def test_a_connection_that_says_nothing_is_closed(port):
    assert rest(connect(port)).startswith(b"HTTP/1.1 408 ")


def test_headers_that_do_not_end_are_given_up(port):
    dripping(connect(port), b"GET / HTTP/1.1\r\nHost: a\r\n", b"X: y\r\n")


def test_a_body_that_does_not_end_is_given_up(port):
    dripping(connect(port), b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\n", b"x")


def test_a_connection_that_is_used_again_has_a_new_deadline(port):
    with connect(port) as client:
        for _ in range(4):
            time.sleep(HEADERS / 2)
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
            answer = b""
            while not answer.endswith(b"\r\n\r\n3"):
                answer += client.recv(65536)
        began = time.monotonic()
        assert rest(client) in (b"", b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        assert time.monotonic() - began < 8


def test_more_connections_than_there_may_be_are_closed(port):
    clients = [connect(port) for _ in range(MOST + 4)]
    time.sleep(0.2)
    closed = 0
    for client in clients:
        client.setblocking(False)
        try:
            closed += client.recv(10) == b""
        except ConnectionResetError:
            closed += 1
        except BlockingIOError:
            pass
        client.close()
    assert closed == 4


def test_garbage_behind_an_answer_is_no_second_answer(port):
    with connect(port) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na\x00\x01\r\n\r\n")
        assert rest(client).startswith(b"HTTP/1.1 200 ")
