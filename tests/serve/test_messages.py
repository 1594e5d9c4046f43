"""Messages of chats: roles, parts, calls and results, as training has them or refused by name."""

from __future__ import annotations

import httpx
import openai
import pytest

from mindcoder.data.conversation import encode_conversation
from mindcoder.data.readers.fields import Fields
from mindcoder.data.readers.turns import read_turns
from mindcoder.serve.messages import ChatMessage, conversation


def call(identifier, name="add", arguments='{"a": 1}'):
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


CALLS = [
    {"role": "developer", "content": "Use tools."},
    {"role": "user", "content": [{"type": "text", "text": "add "}, {"type": "text", "text": "it"}]},
    {"role": "assistant", "content": "Both:", "tool_calls": [call("x"), call("y", "sub", "no JSON")]},
    {"role": "tool", "tool_call_id": "x", "content": "2"},
    {"role": "tool", "tool_call_id": "y", "content": [{"type": "text", "text": "0"}]},
    {"role": "assistant", "content": "2 and 0"},
    {"role": "user", "content": "again"},
]
OLD_CALLS = [
    {"role": "user", "content": "add"},
    {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": '{"b": [1, "é"]}'}},
    {"role": "function", "name": "add", "content": "2"},
]


def turns(messages):
    return conversation([ChatMessage.model_validate(message) for message in messages])


@pytest.mark.parametrize("messages", [CALLS, OLD_CALLS], ids=["tool_calls", "function_call"])
def test_calls_and_results_are_read_as_in_training(server, served_tokenizer, offline, messages):
    as_trained = read_turns(messages, Fields({}))
    assert turns(messages) == as_trained and any("<tool_call>" in turn.content for turn in as_trained)
    ids = encode_conversation(as_trained, "llama2-chat", served_tokenizer)
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
    done = client.chat.completions.create(model="tiny-llama", messages=messages, max_tokens=8, temperature=0)
    assert done.usage.prompt_tokens == len(ids)
    assert done.choices[0].message.content == served_tokenizer.decode(offline(ids, 8), skip_special_tokens=True)


def test_results_stand_in_the_order_of_their_calls():
    swapped = [*CALLS[:3], CALLS[4], CALLS[3], *CALLS[5:]]
    assert turns(swapped) == turns(CALLS)


def test_an_answer_of_openais_comes_back_as_a_message(server):
    answer = {"role": "assistant", "content": "ok", "refusal": None, "annotations": [], "audio": None}
    answer |= {"function_call": None, "tool_calls": None}
    question = {"role": "user", "content": "a"}
    assert ask(server, [question, answer, question]).status_code == 200


def ask(server, messages):
    body = {"messages": messages, "max_tokens": 1}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)


def after(*messages):
    return [{"role": "user", "content": "a"}, *messages]


@pytest.mark.parametrize(
    "messages, param, said",
    [
        ([{"role": "user", "content": "a", "contents": "b"}], "messages[0].contents", "did you mean 'content'?"),
        ([{"role": "user", "content": "a", "zzz": 1}], "messages[0].zzz", "known: role, content, name"),
        ([{"role": "user", "content": "a", "name": "Eve"}], "messages[0].name", "write it into the content"),
        ([{"role": "user", "content": "a", "tool_calls": [call("x")]}], "messages[0].tool_calls", "only the assistant"),
        ([{"role": "user", "content": "a", "tool_call_id": "x"}], "messages[0].tool_call_id", "answers a call"),
        ([{"role": "user"}], "messages[0].content", "expected a text or a list of parts, found null"),
        ([{"role": "user", "content": 5}], "messages[0].content", "expected a text or a list of parts, found 5"),
        ([{"role": "user", "content": ["a"]}], "messages[0].content[0]", 'expected an object, found "a"'),
        ([{"role": "user", "content": [[["a"]]]}], "messages[0].content[0]", "found a list of 1"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
            "messages[0].content[0].type",
            'expected "text" (this server reads text only), found "image_url"',
        ),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text", "missing"),
        ([{"role": "user", "content": [{"text": "a"}]}], "messages[0].content[0].type", "missing"),
        ([{"role": "User", "content": "a"}], "messages[0].role", "'user'"),
        ([{"content": "a"}], "messages[0].role", "missing"),
        (["a"], "messages[0]", "expected an object"),
        ([], "messages", "at least 1"),
        (after({"role": "assistant", "content": "a", "refusal": "no"}), "messages[1].refusal", "write it into"),
        (after({"role": "assistant", "tool_calls": []}), "messages[1].content", "found null"),
        (
            after({"role": "assistant", "tool_calls": [{"id": "x", "type": "custom", "custom": {}}]}),
            "messages[1].tool_calls[0].custom",
            "unknown field 'custom'; known: id, type, function",
        ),
        (
            after({"role": "assistant", "tool_calls": [call("x", arguments={"a": 1})]}),
            "messages[1].tool_calls[0].function.arguments",
            "expected a text, found an object",
        ),
    ],
)
def test_what_a_message_cannot_have(server, messages, param, said):
    answer = ask(server, messages)
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["param"] == param and said in error["message"], error


@pytest.mark.parametrize(
    "messages, said",
    [
        ([*CALLS[:3], {**CALLS[3], "tool_call_id": "z"}], "messages[3].tool_call_id: expected one of the calls before"),
        (CALLS[:4], "messages[2].tool_calls[1]: 'y' has no result"),
        ([*CALLS[:4], CALLS[3]], "messages[4].tool_call_id: 'x' has a result already"),
        (CALLS[3:], "message 0 is the tool's where the user's is expected"),
        ([*CALLS[1:6], CALLS[0], CALLS[6]], "messages[5]: a system message between the turns"),
        (
            [CALLS[1], {"role": "assistant", "tool_calls": [call("x", arguments='"\\ud800"')]}, CALLS[3]],
            "messages[1]: the arguments of a call",
        ),
        (
            [CALLS[1], {"role": "assistant", "tool_calls": [call("x")]}, CALLS[1]],
            "messages[2]: expected the results of the calls before it, found a user's",
        ),
        ([CALLS[1], {"role": "assistant", "tool_calls": [call("x"), call("x")]}, CALLS[3]], "the same id"),
    ],
    ids=["unknown", "none", "twice", "first", "system", "surrogate", "unanswered", "same"],
)
def test_what_does_not_belong_together(server, messages, said):
    answer = ask(server, messages)
    assert answer.status_code == 400 and said in answer.json()["error"]["message"], answer.text
