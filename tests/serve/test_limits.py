"""Keys, rates, full queues, time-outs and the port."""

from __future__ import annotations

import asyncio
import concurrent.futures

import httpx
import pytest
from served import Running

from mindcoder.cli.main import main
from mindcoder.generate.model import ModelRequest, open_model
from mindcoder.serve.app import Limits, create_app
from mindcoder.serve.limits import RateLimit, client_name, key_matches


@pytest.fixture(scope="module")
def guarded(served_folder):
    flags = ["--max_batch_size", "1", "--max_waiting", "2", "--rate_limit", "40", "--timeout", "60"]
    running = Running(served_folder, *flags, MINDCODER_API_KEY="secret")
    yield running
    running.process.kill()
    running.process.wait()


def ask(server, key="secret", timeout=60, **more):
    body = {"prompt": "a", "max_tokens": 2, **more}
    return httpx.post(
        f"{server.url}/v1/completions", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=timeout
    )


def test_only_the_key_opens(guarded):
    assert ask(guarded).status_code == 200
    assert ask(guarded, "wrong").status_code == 401
    assert httpx.get(f"{guarded.url}/v1/models").status_code == 401
    assert httpx.get(f"{guarded.url}/health").status_code == 200
    assert httpx.get(f"{guarded.url}/metrics").status_code == 401
    assert httpx.get(f"{guarded.url}/metrics", headers=guarded.headers).status_code == 200


def test_a_full_queue_is_said_and_the_others_are_answered(guarded):
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: ask(guarded, max_tokens=300, n=1).status_code, range(12)))
    assert answers.count(429) >= 1 and 200 in answers and set(answers) == {200, 429}
    guarded.wait_until_idle()


def test_a_client_that_asks_too_often_is_told_when_to_come_back(guarded):
    with httpx.Client(
        headers=guarded.headers
    ) as client:  # short ones: on a busy machine answers take longer than 1.5 s
        answers = [client.get(f"{guarded.url}/v1/models") for _ in range(60)]
    names = {"Authorization": "Bearer secret", "X-Forwarded-For": "10.9.8.7"}  # nobody is believed to be another
    answers.append(httpx.post(f"{guarded.url}/v1/completions", json={"prompt": "a", "max_tokens": 1}, headers=names))
    assert answers[-1].status_code == 429
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused and int(refused[-1].headers["retry-after"]) >= 1
    assert "more than 40 requests per minute" in refused[-1].json()["error"]["message"]


def test_wrong_keys_are_counted_by_address_whatever_they_are(guarded):
    states = [ask(guarded, f"guess {number}").status_code for number in range(60)]
    assert states[0] in (401, 429) and states[-1] == 429
    assert httpx.get(f"{guarded.url}/v1/models", headers={"Authorization": "Bearer guess"}).status_code == 429
    # the right key is not told from a wrong one while the address is blocked
    assert httpx.get(f"{guarded.url}/v1/models", headers=guarded.headers).status_code == 429


def test_interrupted_it_ends_cleanly(guarded):
    assert guarded.stop() == 0


def test_rates_and_keys_by_themselves():
    limit = RateLimit(2)
    assert [limit.wait("a"), limit.wait("a")] == [0, 0] and 25 < limit.wait("a") <= 30
    assert limit.wait("b") == 0 and RateLimit(None).wait("a") == 0
    assert key_matches("Bearer k", "k") and key_matches(None, None)
    assert not key_matches("Bearer x", "k") and not key_matches(None, "k") and not key_matches("Basic k", "k")
    assert key_matches("Bearer clé".encode().decode("latin-1"), "clé") and key_matches("bearer  k ", "k")
    assert client_name("::ffff:10.0.0.1") == client_name("10.0.0.1") and client_name(None) == ""
    assert client_name("2001:db8::1") == client_name("2001:db8::2") != client_name("2001:db8:0:1::1")


def test_a_port_in_use_and_an_open_door_are_refused(server, served_folder, capsys):
    assert main(["serve", str(served_folder), "--port", str(server.port)]) == 2
    assert "cannot listen on 127.0.0.1" in capsys.readouterr().err
    for host in ("0.0.0.0", "::"):
        assert main(["serve", str(served_folder), "--port", "0", "--host", host]) == 2
        assert "lets other machines in: set --api_key" in capsys.readouterr().err
    for host in ("no.such.host.invalid", "x" * 300, "192.0.2.1"):
        assert main(["serve", str(served_folder), "--port", "8000", "--host", host]) == 2
        error = capsys.readouterr().err
        assert "cannot listen on" in error and len(error.splitlines()) == 1


def test_an_answer_that_takes_too_long_is_given_up(served_folder):
    app = create_app(open_model(ModelRequest(str(served_folder))), Limits(timeout=0.02))

    async def ask(stream):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:
            body = {"prompt": "a", "max_tokens": 400, "temperature": 0, "stream": stream}
            return await http.post("/v1/completions", json=body)

    whole, stream = (asyncio.run(ask(stream)) for stream in (False, True))
    assert whole.status_code == 504 and "no complete answer" in whole.json()["error"]["message"]
    assert stream.status_code == 504 or "the time for this answer is over" in stream.text
    app.state.server.worker.close()
    engine = app.state.server.model.engine
    assert engine.pool.free == engine.pool.usable
