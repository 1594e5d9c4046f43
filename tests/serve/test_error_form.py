"""Every refusal has OpenAI's form, also those of paths, methods and content types."""

from __future__ import annotations

import httpx
import openai
import pytest


def error(answer, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"} and set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.json()["error"]["type"] == "invalid_request_error"
    return answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "method, path, status, said",
    [
        ("GET", "/v2", 404, "there is no /v2 here"),
        ("POST", "/chat/completions", 404, "did you mean /v1/chat/completions?"),
        ("POST", "/v1/chat/completion", 404, "did you mean /v1/chat/completions?"),
        ("POST", "/v1//completions", 404, "did you mean /v1/completions?"),
        ("POST", "/v1/completions/", 404, "did you mean /v1/completions?"),
        ("GET", "/" + "x" * 5000, 404, "there is no /xxx"),
        ("GET", "/%ff%00%0d%0a", 404, "there is no"),
        ("GET", "/v1/completions", 405, "/v1/completions does not take GET, only POST"),
        ("DELETE", "/v1/models", 405, "/v1/models does not take DELETE, only GET"),
        ("BREW", "/health", 405, "does not take BREW"),
    ],
)
def test_paths_and_methods(server, method, path, status, said):
    answer = httpx.request(method, server.url + path)
    message = error(answer, status)
    assert said in message and len(message) < 300 and "\n" not in message
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    "headers, said",
    [
        ({"content-type": "text/plain"}, "Content-Type: expected application/json, found text/plain"),
        ({"content-type": "application/x-www-form-urlencoded"}, "expected application/json"),
        ({"content-type": "multipart/form-data; boundary=x"}, "expected application/json"),
        ({"content-type": ""}, "expected application/json"),
        ({"content-type": "application/json; charset=utf-16"}, "expected charset=utf-8"),
        ({"content-type": "application/json", "content-encoding": "gzip"}, "Content-Encoding: expected none"),
    ],
)
def test_content_that_is_not_json(server, headers, said):
    answer = httpx.post(f"{server.url}/v1/completions", content=b'{"prompt": "a", "max_tokens": 1}', headers=headers)
    assert said in error(answer, 415)


def test_the_second_of_two_content_types_counts_too(server):
    headers = [("content-type", "application/json"), ("content-type", "text/plain")]
    answer = httpx.post(f"{server.url}/v1/completions", content=b'{"prompt": "a", "max_tokens": 1}', headers=headers)
    assert "found text/plain" in error(answer, 415)


def test_a_long_body_of_another_type_is_told_so(server):
    """Not by a closed connection, which a client that still writes sees instead of the answer."""
    answer = httpx.post(f"{server.url}/v1/completions", content=b"x" * 900_000, headers={"content-type": "text/plain"})
    assert "found text/plain" in error(answer, 415) and answer.headers.get("connection") != "close"


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=UTF-8", "application/x+json", None])
def test_content_that_is_json(server, kind):
    headers = {} if kind is None else {"content-type": kind}
    answer = httpx.post(f"{server.url}/v1/completions", content=b'{"prompt": "a", "max_tokens": 1}', headers=headers)
    assert answer.status_code == 200


def test_openais_client_reads_them(server):
    client = openai.OpenAI(base_url=server.url, api_key="any", max_retries=0)  # /v1 forgotten
    messages = [{"role": "user", "content": "a"}]
    with pytest.raises(openai.NotFoundError, match="did you mean /v1/chat/completions"):
        client.chat.completions.create(model="tiny-llama", messages=messages)
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
    with pytest.raises(openai.BadRequestError, match="max_tokens: expected an integer") as caught:
        client.chat.completions.create(model="tiny-llama", messages=messages, max_tokens="5")
    assert caught.value.param == "max_tokens"
