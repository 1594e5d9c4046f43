"""The server through OpenAI's own client."""

from __future__ import annotations

import httpx
import openai
import pytest

from mindcoder.data.conversation import Message, encode_conversation


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)


def test_a_completion_is_transformers_greedy_text(client, offline, served_tokenizer):
    prompt = "import socket\n"
    ids = served_tokenizer.encode(prompt)
    done = client.completions.create(model="tiny-llama", prompt=prompt, max_tokens=24, temperature=0)
    expected = offline(ids, 24)
    assert done.choices[0].text == served_tokenizer.decode(expected, skip_special_tokens=True)
    assert done.usage.prompt_tokens == len(ids) and done.usage.completion_tokens == len(expected)
    assert done.choices[0].finish_reason == "length" if len(expected) == 24 else "stop"


def test_a_stream_brings_the_same_text_in_pieces(client):
    arguments = {"model": "tiny-llama", "prompt": ["def f(", "class A"], "max_tokens": 20, "temperature": 0}
    whole = client.completions.create(**arguments)
    texts, pieces, usage = ["", ""], 0, None
    for chunk in client.completions.create(**arguments, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            pieces += 1
        usage = chunk.usage or usage
    assert texts == [choice.text for choice in whole.choices]
    assert pieces > 10 and usage.completion_tokens == whole.usage.completion_tokens


def test_a_chat_uses_the_template(client, offline, served_tokenizer):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "return 1"},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": "again"},
    ]
    turns = [Message(item["role"], item["content"]) for item in messages]
    ids = encode_conversation(turns, "llama2-chat", served_tokenizer)
    done = client.chat.completions.create(model="tiny-llama", messages=messages, max_tokens=16, temperature=0)
    assert done.choices[0].message.content == served_tokenizer.decode(offline(ids, 16), skip_special_tokens=True)
    stream = client.chat.completions.create(
        model="tiny-llama", messages=messages, max_tokens=16, temperature=0, stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == done.choices[0].message.content


def test_stop_strings_end_the_text_before_them(client):
    arguments = {"model": "tiny-llama", "prompt": "import os", "temperature": 0}
    free = client.completions.create(**arguments, max_tokens=40).choices[0].text
    stop = free[10:13]
    stopped = client.completions.create(**arguments, max_tokens=40, stop=[stop]).choices[0]
    assert stopped.text == free[: free.index(stop)] and stopped.finish_reason == "stop"
    streamed = client.completions.create(**arguments, max_tokens=40, stop=[stop], stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed if chunk.choices) == stopped.text


def test_a_seed_repeats_and_n_answers_differ(client):
    def ask(seed):
        done = client.completions.create(model="tiny-llama", prompt="x =", max_tokens=12, n=3, seed=seed, temperature=1)
        return [choice.text for choice in done.choices]

    assert ask(5) == ask(5) != ask(6)
    assert len(set(ask(5))) == 3


def test_logprobs_of_both_kinds(client):
    done = client.completions.create(model="tiny-llama", prompt="a", max_tokens=3, temperature=0, logprobs=2)
    logprobs = done.choices[0].logprobs
    assert len(logprobs.tokens) == 3 and all(value <= 0 for value in logprobs.token_logprobs)
    assert max(logprobs.top_logprobs[0].values()) == logprobs.token_logprobs[0]
    done = client.chat.completions.create(
        model="tiny-llama",
        messages=[{"role": "user", "content": "a"}],
        max_tokens=2,
        temperature=0,
        logprobs=True,
        top_logprobs=3,
    )
    content = done.choices[0].logprobs.content
    assert len(content) == 2 and len(content[0].top_logprobs) == 3
    assert content[0].logprob == content[0].top_logprobs[0].logprob


def test_lists_its_model(client):
    assert [model.id for model in client.models.list()] == ["tiny-llama"]
    assert client.models.retrieve("tiny-llama").id == "tiny-llama"


@pytest.mark.parametrize("name", ["gpt-5", "org/gpt-5", "", "tiny-llama/"])
def test_a_model_that_is_not_there_is_a_404(server, client, name):
    asked = httpx.post(f"{server.url}/v1/completions", json={"model": name, "prompt": "a", "max_tokens": 2})
    for answer in (asked, httpx.get(f"{server.url}/v1/models/{name}")):
        error = answer.json()["error"]
        assert answer.status_code == 404 and error["code"] == "model_not_found" and error["param"] == "model"
        assert error["message"] == f"no model {name!r} here; available: 'tiny-llama'"
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model=name, prompt="a", max_tokens=2)


def test_health_answers_probes_without_a_body(server):
    assert httpx.head(f"{server.url}/health").status_code == 200


@pytest.mark.parametrize(
    "change, message",
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"prompt": ""}, "prompt: it is empty"),
        ({"prompt": "x " * 600}, "leaves no room for an answer"),
        ({"prompt": [99999]}, "token ids have to be"),
        ({"temperatur": 1}, "temperatur"),
        ({"suffix": "b"}, "no fill-in-the-middle tokens"),
        ({"stop": ["a"] * 5}, "at most 4"),
    ],
)
def test_bad_requests_say_what_is_wrong(server, change, message):
    body = {"model": "tiny-llama", "prompt": "a", "max_tokens": 2, **change}
    answer = httpx.post(f"{server.url}/v1/completions", json=body)
    assert answer.status_code == 400 and message in answer.json()["error"]["message"]


def test_broken_json_and_unknown_paths(server):
    assert httpx.post(f"{server.url}/v1/completions", content=b"{").status_code == 400
    assert httpx.get(f"{server.url}/v2").status_code == 404
    big = httpx.post(f"{server.url}/v1/completions", content=b" " * (1 << 21))
    assert big.status_code == 413 and "1048576 bytes" in big.json()["error"]["message"]


def test_the_page_and_the_metrics(server):
    page = httpx.get(server.url)
    script = httpx.get(f"{server.url}/page/chat.js")
    assert "v1/chat/completions" in script.text and script.headers["content-type"].startswith("text/javascript")
    assert "page/chat.js" in page.text and page.headers["content-type"].startswith("text/html")
    assert server.metric('mindcoder_tokens_total{kind="generated"}') > 0
    server.wait_until_idle()


def test_only_the_last_chunk_of_a_stream_has_a_reason_and_the_first_a_role(client):
    for _ in range(3):
        messages = [{"role": "user", "content": "hi"}]
        asked = {"model": "tiny-llama", "messages": messages, "max_tokens": 6, "temperature": 0}
        chunks = list(client.chat.completions.create(**asked, stream=True))
        reasons = [chunk.choices[0].finish_reason for chunk in chunks]
        assert reasons[-1] is not None and set(reasons[:-1]) <= {None}
        roles = [chunk.choices[0].delta.role for chunk in chunks]
        assert roles[0] == "assistant" and set(roles[1:]) <= {None}
