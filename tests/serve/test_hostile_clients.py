"""Requests that are wrong, too large, too slow or half there: they fail by themselves, the others are answered."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import select
import socket
import struct
import threading
import time

import httpx
import pytest
from served import Running

from mindcoder.generate.model import ModelRequest, open_model
from mindcoder.serve.app import create_app
from mindcoder.serve.protocol import ChatRequest
from mindcoder.tokenizer import CodeTokenizer


@pytest.fixture(scope="module")
def harried(served_folder):
    """A server whose log is read at the end: nothing these tests do may leave a traceback in it."""
    running = Running(served_folder, "--max_batch_size", "4", "--max_waiting", "28", "--max_request_tokens", "5000")
    yield running
    running.wait_until_idle()
    assert running.stop() == 0
    log = running.process.communicate()[0]
    assert "Traceback" not in log and "Exception" not in log, log


def ask(server, timeout=60, path="/v1/completions", **body):
    return httpx.post(f"{server.url}{path}", json={"prompt": "a", "max_tokens": 4, **body}, timeout=timeout)


def raw(server, *pieces: bytes, seconds: float = 5.0) -> bytes:
    """What comes back on a connection of one's own until it is closed or ``seconds`` are over."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as client:
        for piece in pieces:
            client.sendall(piece)
        answer, end = b"", time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and select.select([client], [], [], left)[0]:
            piece = client.recv(65536)
            if not piece:
                break
            answer += piece
        return answer


def request(body: bytes, *headers: str, host: str = "localhost", path: str = "/v1/completions") -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.mark.parametrize("value", [1e-8, 0, 10])
def test_temperatures_at_the_edge_are_answered(harried, value):
    assert ask(harried, temperature=value, seed=1, repetition_penalty=1.2).status_code == 200


def test_a_tiny_temperature_disturbs_nobody(harried):
    """The report's case: 1e-310 failed every client's answer. It is refused; the smallest that is not harms nobody."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        alone = ask(harried, temperature=0, max_tokens=40).json()["choices"][0]["text"]
        others = [pool.submit(ask, harried, temperature=0, max_tokens=40) for _ in range(4)]
        least = {"top_p": 1e-8, "repetition_penalty": 100}
        odd = [pool.submit(ask, harried, temperature=value, **least) for value in (1e-310, 1e-8) * 2]
        assert [item.result().json()["choices"][0]["text"] for item in others] == [alone] * 4
        assert [item.result().status_code for item in odd] == [400, 200] * 2


@pytest.mark.parametrize(
    "body, expected",
    [
        (b'{"prompt": "a", "temperature": NaN}', "temperature"),
        (b'{"prompt": "a", "temperature": 1e400}', "temperature"),
        (b'{"prompt": "a", "temperature": -0.1}', "temperature"),
        (b'{"prompt": "a", "top_p": Infinity}', "top_p"),
        (b'{"prompt": "a", "top_p": 0}', "top_p"),
        (b'{"prompt": "a", "repetition_penalty": 1e-310}', "repetition_penalty"),
        (b'{"prompt": "a", "repetition_penalty": 1e300}', "repetition_penalty"),
        (b'{"prompt": "a", "top_k": -1}', "top_k"),
        (b'{"prompt": "a", "top_k": 1e30}', "top_k"),
        (b'{"prompt": "a", "seed": ' + b"9" * 4000 + b"}", "seed"),
        (b'{"prompt": "a", "max_tokens": 99999999999999999999}', "max_tokens"),
        (b'{"prompt": "a", "n": 17}', "n: "),
        (b'{"prompt": "a", "logprobs": 1000}', "logprobs"),
        (b'{"prompt": "a", "stop": "' + b"x" * 2000 + b'"}', "stop"),
        (b'{"prompt": "a", "model": "' + b"x" * 2000 + b'"}', "model"),
        (b'{"prompt": "a", "stream_options": {"usage": true}}', "stream_options"),
        (b'{"prompt": "\\ud800"}', "hex escape"),
        (b'{"prompt": [1e30]}', "prompt"),
        (b'{"prompt": [1, "a"]}', "prompt"),
        (b'{"prompt": [[1]]}', "prompt"),
        (b'{"prompt": [true]}', "prompt"),
        (b'{"prompt": ' + b"[" * 5000 + b"]" * 5000 + b"}", ""),
        (b'{"prompt": "a"', ""),
        (b"\xff\xfe\x00", ""),
        (b"", ""),
        (b"null", ""),
    ],
)
def test_wrong_bodies_are_refused_by_name(harried, body, expected):
    answer = httpx.post(f"{harried.url}/v1/completions", content=body)
    assert answer.status_code == 400 and expected in answer.json()["error"]["message"], answer.text


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": ["a"] * 5000, "n": 16},
        {"prompt": ["a"] * 2000, "n": 16},
        {"prompt": ["a"] * 3, "n": 16},
        {"prompt": ["a"] * 12, "max_tokens": 10**9},
        {"prompt": ["x"] * 250_000},
        {"prompt": [[]] * 250_000},
        {"prompt": [None] * 200_000},
    ],
    ids=["5000x16", "2000x16", "3x16", "tokens", "250000", "lists", "nulls"],
)
def test_too_much_is_refused_before_anything_is_made_of_it(harried, body):
    """While it is, another client is answered: the loop is not held up (the report's body took 7 s)."""
    gaps = []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        refused = pool.submit(httpx.post, f"{harried.url}/v1/completions", json=body, timeout=60)
        while not refused.done():
            began = time.perf_counter()
            assert httpx.get(f"{harried.url}/health").status_code == 200
            gaps.append(time.perf_counter() - began)
    assert refused.result().status_code in (400, 413), refused.result().text
    assert "Traceback" not in refused.result().text


def test_a_text_too_long_to_be_answered_is_refused(harried):
    answer = ask(harried, prompt="def f(x): return x + 1\n" * 40_000)
    assert answer.status_code == 400 and "leaves no room for an answer" in answer.text


def test_texts_are_tokenized_beside_the_loop(served_folder, monkeypatch):
    """Tokenizing waits until another request has been answered; in the event loop that one would never be."""
    app = create_app(open_model(ModelRequest(str(served_folder))))
    begun, answered, waited = threading.Event(), threading.Event(), []
    encode = CodeTokenizer.encode

    def slow(tokenizer, text):
        begun.set()
        waited.append(answered.wait(20))
        return encode(tokenizer, text)

    monkeypatch.setattr(CodeTokenizer, "encode", slow)

    async def both() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            asked = asyncio.create_task(client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1}))
            while not begun.is_set():
                await asyncio.sleep(0.01)
            health = await client.get("/health")
            answered.set()
            return [health.status_code, (await asked).status_code]

    try:
        assert asyncio.run(both()) == [200, 200] and waited == [True]
    finally:
        app.state.server.worker.close()


def test_large_bodies_are_read_beside_the_loop(served_folder, monkeypatch):
    """As above, with a body that waits while it is taken apart."""
    app = create_app(open_model(ModelRequest(str(served_folder))))
    begun, answered, waited = threading.Event(), threading.Event(), []
    parse = ChatRequest.model_validate_json

    def slow(body):
        begun.set()
        waited.append(answered.wait(20))
        return parse(body)

    monkeypatch.setattr(ChatRequest, "model_validate_json", slow)
    parts = [{"type": "text", "text": ""}] * 2000
    turns = [{"role": role, "content": parts} for role in ("user", "assistant", "user")]

    async def both() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            body = {"messages": turns, "max_tokens": 1}
            asked = asyncio.create_task(client.post("/v1/chat/completions", json=body))
            while not begun.is_set():
                await asyncio.sleep(0.01)
            health = await client.get("/health")
            answered.set()
            return [health.status_code, (await asked).status_code]

    try:
        assert asyncio.run(both()) == [200, 200] and waited == [True]
    finally:
        app.state.server.worker.close()


def test_places_are_given_all_or_none(harried):
    """20 and 20 of 32: the second is told to wait, and nothing of it runs on."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, harried, prompt=["a"] * 10, n=2, max_tokens=60) for _ in range(4)]
        states = sorted(item.result().status_code for item in asked)
    assert states[0] == 200 and states[-1] == 429
    harried.wait_until_idle()


@pytest.mark.parametrize(
    "sent, expected",
    [
        (request(b"", "Content-Length: 5"), b" 400 "),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", b" 4"),
        (b"GET / HTTP/1.1\r\n" + b"Host: localhost\r\n" * 2 + b"\r\n", b" 400 "),
        (b"GET /?" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b" 4"),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", b" 403 "),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", b" 403 "),
        (b"GET / HTTP/1.1\r\n\r\n", b" 400 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b" 400 "),
        (b"nonsense\r\n\r\n", b" 400 "),
        (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n", b" 413 "),
        (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", b" 4"),
        (b"CONNECT [ HTTP/1.1\r\nHost: localhost\r\n\r\n", b" 404 "),
        (b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", b" 200 "),
    ],
    ids=[
        "length",
        "header",
        "hosts",
        "path",
        "foreign",
        "page",
        "nohost",
        "tls",
        "nonsense",
        "huge",
        "chunk",
        "connect",
        "websocket",
    ],
)
def test_what_is_no_request(harried, sent, expected):
    head = raw(harried, sent, seconds=1.5).split(b"\r\n")[0]
    assert expected in head, head


def test_two_lengths_end_the_connection(harried):
    """A proxy in front may believe the other one; what stands behind the body is not answered."""
    lengths = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    hidden = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = raw(harried, b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n" + lengths + hidden, seconds=2)
    assert answer.startswith(b"HTTP/1.1 400 ") and b"exclude one another" in answer and b'"ok"' not in answer


def test_a_body_without_end_is_cut(harried):
    """Chunk after chunk: refused as soon as it is too long, not when it ends."""
    start = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", harried.port), timeout=20) as client:
        client.sendall(start)
        sent = 0
        try:
            while sent < 64 << 20 and not select.select([client], [], [], 0)[0]:
                client.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                sent += 65536
        except OSError:
            pass
    assert sent < 16 << 20


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("moment", ["headers", "body", "waiting", "stream", "pipelined"])
def test_clients_that_hang_up_leave_nothing_behind(harried, moment, reset):
    body = {"prompt": "a", "max_tokens": 400, "temperature": 0, "stream": moment in ("stream", "pipelined")}
    whole = request(json.dumps(body).encode())
    sent = {"headers": whole[:20], "body": whole[:-10], "pipelined": whole * 3}.get(moment, whole)
    for _ in range(3):
        client = socket.create_connection(("127.0.0.1", harried.port))
        client.sendall(sent)
        if moment in ("stream", "pipelined"):
            client.recv(100)
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    harried.wait_until_idle()
    assert ask(harried).status_code == 200
