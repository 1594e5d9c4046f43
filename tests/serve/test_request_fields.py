"""Fields of requests: of one type each, known or refused with their neighbour, and OpenAI's that change nothing."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import openai
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase as ChatParams
from openai.types.completion_create_params import CompletionCreateParamsBase as CompletionParams

from mindcoder.serve.protocol import ChatRequest, CompletionRequest, KnownToBoth, KnownToChat

DOCS = Path(__file__).resolve().parents[2] / "docs"
CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "temperature": 0}
COMPLETION = {"prompt": "a", "max_tokens": 2, "temperature": 0}


def complete(server, **change):
    return httpx.post(f"{server.url}/v1/completions", json={**COMPLETION, **change}, timeout=60)


def chat(server, **change):
    return httpx.post(f"{server.url}/v1/chat/completions", json={**CHAT, **change}, timeout=60)


def refused(answer, param: str, *said: str) -> None:
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["type"] == "invalid_request_error", answer.text
    assert error["param"] == param and all(text in error["message"] for text in said), error
    assert "\n" not in error["message"] and len(error["message"]) < 500


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("logprobs", True, "logprobs: expected an integer, found true"),
        ("n", True, "n: expected an integer, found true"),
        ("max_tokens", "5", 'max_tokens: expected an integer, found "5"'),
        ("max_tokens", 5.0, "max_tokens: expected an integer, found 5.0"),
        ("seed", "1", 'seed: expected an integer, found "1"'),
        ("temperature", "0.5", 'temperature: expected a number, found "0.5"'),
        ("temperature", True, "temperature: expected a number, found true"),
        ("top_p", [1], "top_p: expected a number, found a list of 1"),
        ("stream", "yes", 'stream: expected true or false, found "yes"'),
        ("stream", 1, "stream: expected true or false, found 1"),
        ("echo", 0, "echo: expected false (not supported by this server), found 0"),
        ("echo", True, "echo: expected false (not supported by this server), found true"),
        ("best_of", True, "best_of: expected 1 (not supported by this server), found true"),
        ("model", 5, "model: expected a text, found 5"),
        ("suffix", {"a": 1}, "suffix: expected a text, found an object"),
        ("stop", 5, "stop: expected a text or a list of texts, found 5"),
        ("stop", ["a", None], "stop[1]: expected a text, found null"),
        ("stop", "", 'stop[0]: expected at least 1 character, found ""'),
        ("stop", ["a", ""], 'stop[1]: expected at least 1 character, found ""'),
        ("stop", False, "stop: expected a text or a list of texts, found false"),
        ("stop", {}, "stop: expected a text or a list of texts, found an object"),
        ("user", {}, "user: expected a text, found an object"),
        ("stop", ["a"] * 5, "stop: expected a list of at most 4, found a list of 5"),
        ("prompt", None, "prompt: expected a text, a list of texts or a list of token ids, found null"),
        ("stream_options", [], "stream_options: expected an object, found a list of 0"),
        ("stream_options", {"include_usage": 1}, "stream_options.include_usage: expected true or false, found 1"),
    ],
)
def test_nothing_is_converted(server, field, value, message):
    answer = complete(server, **{field: value})
    refused(answer, message.partition(":")[0], message)


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("metadata", 5, "metadata: expected an object, found 5"),
        ("metadata", {"a": 1}, "metadata.a: expected a text, found 1"),
        ("metadata", {str(i): "" for i in range(17)}, "metadata: expected an object of at most 16, found an object"),
        ("store", "no", 'store: expected true or false, found "no"'),
        ("parallel_tool_calls", 1, "parallel_tool_calls: expected true or false, found 1"),
        ("service_tier", [], "service_tier: expected a text, found a list of 0"),
    ],
)
def test_what_changes_nothing_has_its_type_too(server, field, value, message):
    refused(chat(server, **{field: value}), message.partition(":")[0], message)


@pytest.mark.parametrize("change", [{"temperature": 1, "top_p": 1, "repetition_penalty": 1}, {"presence_penalty": 0}])
def test_integers_are_numbers(server, change):
    assert complete(server, **change).status_code == 200


def test_null_is_the_default(server):
    optional = {name: None for name in CompletionRequest.model_fields if name not in ("prompt", "max_tokens")}
    assert complete(server, **optional).status_code == 200
    optional = {name: None for name in ChatRequest.model_fields if name not in CHAT}
    assert chat(server, **optional).json()["choices"][0]["message"] == chat(server).json()["choices"][0]["message"]


@pytest.mark.parametrize(
    "field, near",
    [("temperatur", "temperature"), ("max_token", "max_tokens"), ("message", "messages"), ("Stream", "stream")],
)
def test_a_misspelt_field_is_named_with_its_neighbour(server, field, near):
    refused(chat(server, **{field: 1}), field, f"unknown field {field!r}; did you mean {near!r}?")


def test_a_misspelt_field_that_has_to_be_there(server):
    answer = httpx.post(f"{server.url}/v1/chat/completions", json={"mesages": CHAT["messages"]})
    refused(answer, "mesages", "did you mean 'messages'?")
    refused(httpx.post(f"{server.url}/v1/completions", json={}), "prompt", "prompt: it is missing")


def test_a_misspelt_option_of_streams(server):
    answer = chat(server, stream=True, stream_options={"include_usages": True})
    refused(answer, "stream_options.include_usages", "stream_options: unknown field", "did you mean 'include_usage'?")


@pytest.mark.parametrize("params, ours", [(ChatParams, ChatRequest), (CompletionParams, CompletionRequest)])
def test_every_field_of_openais_client_is_known(params, ours):
    assert set(params.__annotations__) - set(ours.model_fields) == set()


@pytest.mark.parametrize("page", ["inference.md", "inference_CN.md"])
def test_the_pages_say_what_becomes_of_each(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    assert [name for name in {**KnownToBoth.model_fields, **KnownToChat.model_fields} if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    "change",
    [
        {
            "metadata": {"a": "b"},
            "store": True,
            "service_tier": "auto",
            "parallel_tool_calls": False,
            "user": "me",
            "safety_identifier": "x",
            "prompt_cache_key": "k",
            "prompt_cache_retention": "24h",
            "prompt_cache_options": {"mode": "implicit"},
            "prediction": {"type": "content", "content": "x"},
        },
        {"tools": [], "tool_choice": "auto", "response_format": {"type": "text"}, "modalities": ["text"]},
        {"logit_bias": {}, "functions": [], "function_call": "none", "verbosity": "medium", "reasoning_effort": "none"},
        {"presence_penalty": 0.0, "frequency_penalty": 0, "stream_options": {"include_obfuscation": False}},
    ],
)
def test_what_changes_nothing_is_taken(server, change):
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
    plain = client.chat.completions.create(model="tiny-llama", **CHAT)
    assert client.chat.completions.create(model="tiny-llama", **CHAT, **change).choices == plain.choices


@pytest.mark.parametrize(
    "field, value, said",
    [
        ("tools", {"type": "function"}, "tools: expected a list, found an object"),
        ("tools[0].type", [{"type": "web_search"}], "tools[0].type: expected 'function', found \"web_search\""),
        ("tools[0].function", [{"type": "function"}], "tools[0].function: it is missing"),
        ("tools[0].function.parameters", [{"function": {"name": "f", "parameters": "x"}}], "expected an object"),
        ("tool_choice", "required", 'expected "none" or "auto"'),
        ("functions", [{"name": "f"}], "found a list of 1"),
        ("response_format", {"type": "json_object"}, 'expected {"type": "text"}'),
        ("logit_bias", {"5": 100}, "logit_bias: expected {}"),
        ("presence_penalty", 0.5, "presence_penalty: expected 0 (not supported by this server), found 0.5"),
        ("frequency_penalty", 1e-310, "frequency_penalty: expected 0"),
        ("frequency_penalty", False, "frequency_penalty: expected a number"),
        ("modalities", ["text", "audio"], "text only"),
        ("audio", {"voice": "alloy"}, "expected null"),
        ("reasoning_effort", "low", "not supported"),
        ("verbosity", "high", "not supported"),
        ("moderation", {"model": "m"}, "not supported"),
        ("web_search_options", {}, "not supported"),
    ],
)
def test_what_would_change_the_answer_is_refused(server, field, value, said):
    refused(chat(server, **{field.partition("[")[0]: value}), field, field, said)


@pytest.mark.parametrize(
    "change, param, said",
    [
        ({"top_logprobs": 2}, "logprobs", "expected true, because of top_logprobs, found null"),
        ({"max_completion_tokens": 3}, "max_tokens", "expected max_completion_tokens, which is 3, or null, found 2"),
    ],
)
def test_fields_that_contradict_one_another(server, change, param, said):
    refused(chat(server, **change), param, said)


def test_token_ids_have_no_suffix(server):
    refused(complete(server, prompt=[5, 6], suffix="x"), "prompt", "because of the suffix")


@pytest.mark.parametrize(
    "field, value, said",
    [
        ("temperature", 1e-310, "temperature: expected 0 or at least 1e-08, found 1e-310"),
        ("temperature", 5e-324, "found 5e-324"),
        ("temperature", -5e-324, "temperature: expected at least 0"),
        ("top_p", 1e-310, "top_p: expected at least 1e-08, found 1e-310"),
        ("top_p", 0, "top_p: expected at least 1e-08, found 0"),
        ("repetition_penalty", 1e-310, "repetition_penalty: expected at least 0.01"),
        ("presence_penalty", 1e-310, "presence_penalty: expected 0"),
    ],
)
def test_numbers_that_float32_does_not_hold(server, field, value, said):
    refused(complete(server, **{field: value}), field, said)


@pytest.mark.parametrize(
    "change", [{"temperature": 1e-8}, {"temperature": -0.0}, {"top_p": 1e-8, "temperature": 1}, {"temperature": 10}]
)
def test_numbers_at_the_edge(server, change):
    assert complete(server, **change, seed=1, repetition_penalty=100).status_code == 200


@pytest.mark.parametrize(
    "body, param, said",
    [
        (b'{"prompt": "a", "prompt": "b"}', "prompt", "the field 'prompt' occurs twice"),
        (b'{"prompt": "a", "promp\\u0074": "b"}', "prompt", "the field 'prompt' occurs twice"),
        (b'{"prompt": "a", "stream_options": {"include_usage": true, "include_usage": false}}', "include_usage", ""),
        (
            b'{"prompt": "a", "stream_options": {"include_obfuscation": {"\\n\\u001b": 1, "\\n\\u001b": 2}}}',
            "\n\x1b",
            "the field '\\n\\x1b' occurs twice",
        ),
        (b'{"prompt": "a", "suffix": 1, "stop": "\\u202e"}', "suffix", "found 1"),
        (b'{"prompt": "a", "n": "\\u202e\\u009b"}', "n", 'found "\\u202e\\x9b"'),
        (
            b'{"prompt": "a", "stream_options": {"include_obfuscation": NaN}}',
            None,
            "the body is not JSON: NaN is not a JSON value",
        ),
        (
            b'{"prompt": "a", "stream_options": {"include_obfuscation": [-Infinity]}}',
            None,
            "the body is not JSON: -Infinity is not a JSON value",
        ),
        (b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}", None, "number out of range"),
        (b'{"prompt": "a", "seed": ' + b"9" * 4000 + b"}", "seed", "seed: expected"),
        (b'{"prompt": "a", "temperature": ' + b"9" * 400 + b"}", "temperature", "temperature: expected"),
        (b'{"prompt": "a", "temperature": 1e999}', "temperature", "expected a finite number"),
        (b'{"prompt": "a"} {"prompt": "b"}', None, "the body is not JSON"),
        (b"\xef\xbb\xbf{}", None, "the body is not JSON"),
        (b"prompt=a", None, "the body is not JSON"),
        (b"[]", None, "expected an object, found a list of 0"),
        (b'"text"', None, 'expected an object, found "text"'),
        (b'{"prompt": "a", "' + b"x" * 5000 + b'": 1}', "x" * 40, "unknown field"),
        (b'{"prompt": "a", "\\n\\u001b[31m": 1}', "\n\x1b[31m", "unknown field '\\n\\x1b[31m'"),
    ],
)
def test_odd_json(server, body, param, said):
    refused(httpx.post(f"{server.url}/v1/completions", content=body), param, said)


def test_a_hundred_thousand_unknown_fields_are_one_error(server):
    body = {f"x{number}": 1 for number in range(90_000)}
    answer = httpx.post(f"{server.url}/v1/completions", content=json.dumps(body, separators=(",", ":")), timeout=60)
    refused(answer, "x0", "unknown field 'x0'")
    assert answer.elapsed.total_seconds() < 2


def test_an_unknown_field_of_a_tool_is_named(server):
    answer = chat(server, tools=[{"function": {"name": "f", "args": {}}}])
    refused(answer, "tools[0].function.args", "tools[0].function: unknown field 'args'; known: name, description")
