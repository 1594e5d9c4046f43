"""Tools of a chat: shown in the model's template, and its calls read from the answer."""

from __future__ import annotations

import asyncio
import json
import shutil
from types import SimpleNamespace

import httpx
import openai
import pytest
from own_templates import CHATML

from mindcoder.data.conversation import Message, encode_conversation
from mindcoder.data.readers.tools import with_tools
from mindcoder.data.tool_calls import Call, CallStream, split_calls
from mindcoder.generate.model import ModelRequest, open_model
from mindcoder.serve.app import create_app
from mindcoder.serve.calls import CallsInAnswer
from mindcoder.serve.protocol import ChatRequest
from mindcoder.serve.responses import ChatJob
from mindcoder.tokenizer import load_tokenizer

FUNCTION = {"name": "get", "description": "天气", "parameters": {"type": "object", "properties": {"city": {}}}}
TOOLS = [{"type": "function", "function": FUNCTION}]
CALL = '<tool_call>\n{"name": "get", "arguments": {"city": "巴黎"}}\n</tool_call>'


def job_of(**fields):
    body = ChatRequest.model_validate({"messages": [{"role": "user", "content": "q"}], "tools": TOOLS, **fields})
    return ChatJob(body, SimpleNamespace(name="m"), None, None)


def test_calls_of_an_answer_are_openais():
    answer = job_of().choice(0, f"Let me see.\n{CALL}\n{CALL}", (), "stop", False)
    message = answer["message"]
    assert (message["role"], message["content"], answer["finish_reason"]) == ("assistant", "Let me see.", "tool_calls")
    first, second = message["tool_calls"]
    assert first["type"] == "function" and first["id"] != second["id"] and "index" not in first
    assert first["function"] == {"name": "get", "arguments": '{"city": "巴黎"}'}
    only = job_of().choice(0, CALL, (), "stop", False)["message"]
    assert only["content"] is None and len(only["tool_calls"]) == 1
    words = job_of().choice(0, "no call", (), "stop", False)
    assert words["message"] == {"role": "assistant", "content": "no call"} and words["finish_reason"] == "stop"


@pytest.mark.parametrize("fields", [{"tool_choice": "none"}, {"tools": None}, {"tools": []}])
def test_without_tools_an_answer_stays_text(fields):
    answer = job_of(**fields).choice(0, CALL, (), "stop", False)
    assert answer["message"]["content"] == CALL and answer["finish_reason"] == "stop"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_a_stream_brings_words_at_once_and_calls_when_they_are_complete(size):
    job, text = job_of(), f"a <tool b\n{CALL}\n{CALL}"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    chunks = [job.choice(0, piece, (), None, True) for piece in pieces] + [job.choice(0, "", (), "stop", True)]
    assert "".join(chunk["delta"]["content"] for chunk in chunks) == "a <tool b\n"
    calls = [call for chunk in chunks for call in chunk["delta"].get("tool_calls", ())]
    assert [call["index"] for call in calls] == [0, 1]
    assert all(json.loads(call["function"]["arguments"]) == {"city": "巴黎"} for call in calls)
    assert chunks[-1]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\nno JSON\n</tool_call>",
        '<tool_call>\n{"name": 5}\n</tool_call>',
        '<tool_call>\n["name"]\n</tool_call>',
        '<tool_call>\n{"name": "f", "arguments": [1]}\n</tool_call>',
        '<tool_call>\n{"name": "f"}',  # cut off
        "<tool_call></tool_call>",
        "<tool_call>" + "[" * 100_000 + "</tool_call>",
        "</tool_call> <tool_call",
    ],
)
def test_what_is_no_call_stays_text(text):
    fields, reason = CallsInAnswer().add(text, "stop", False)
    assert fields == {"content": text} and reason == "stop"
    assert split_calls(text) == (text, [])


def test_calls_are_taken_apart_only_at_the_end_of_an_answer():
    assert split_calls(f"Words.\n{CALL}") == ("Words.", [Call("get", {"city": "巴黎"})])
    assert split_calls(f"{CALL}\nand words") == (f"{CALL}\nand words", [])
    quoted = '<tool_call>{"name": "f", "parameters": "{\\"a\\": 1}"}</tool_call>'
    assert split_calls(quoted) == ("", [Call("f", {"a": 1})])
    stream = CallStream()
    assert stream.push("x<") + stream.push("y") + stream.finish() == "x<y"


def test_an_answer_cut_at_its_length_keeps_its_reason():
    _, reason = CallsInAnswer().add(CALL, "length", False)
    assert reason == "length"


def test_the_server_shows_the_tools_to_the_model(server, served_tokenizer, offline):
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "q"}]
    done = client.chat.completions.create(
        model="tiny-llama", messages=messages, tools=TOOLS, max_tokens=8, temperature=0
    )
    turns = with_tools([Message("system", "Be brief."), Message("user", "q")], TOOLS)
    assert "天气" in turns[0].content
    ids = encode_conversation(turns, "llama2-chat", served_tokenizer)
    assert done.usage.prompt_tokens == len(ids)
    assert done.choices[0].message.content == served_tokenizer.decode(offline(ids, 8), skip_special_tokens=True)
    assert done.choices[0].message.tool_calls is None
    hidden = client.chat.completions.create(
        model="tiny-llama", messages=messages, tools=TOOLS, tool_choice="none", max_tokens=8, temperature=0
    )
    plain = client.chat.completions.create(model="tiny-llama", messages=messages, max_tokens=8, temperature=0)
    assert hidden.choices == plain.choices


SLOW = (
    "{% if messages[0].content == 'slow' %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
    "{% endfor %}{% elif messages[0].content == 'no' %}{{ raise_exception('not this') }}{% endif %}"
)


def test_a_models_own_template_answers_and_one_bad_request_harms_no_other(served_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(served_folder, folder)
    text = SLOW + CHATML.replace("<|im_start|>", "<s>").replace("<|im_end|>", "</s>")
    (folder / "chat_template.jinja").write_text(text)
    model = open_model(ModelRequest(str(folder), max_length=128, batch=2))
    assert model.template == "chat_template"
    contents = ["hi", "no", "hi", "slow", "hi"]

    async def ask():
        app = create_app(model)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here", timeout=60) as http:
            body = {"max_tokens": 4, "temperature": 0}
            asked = [[{"role": "user", "content": content}] for content in contents]
            answers = await asyncio.gather(
                *(http.post("/v1/chat/completions", json={**body, "messages": messages}) for messages in asked)
            )
        app.state.server.worker.close()
        return answers

    good, refused, again, slow, last = asyncio.run(ask())
    ids = encode_conversation([Message("user", "hi")], "chat_template", load_tokenizer(folder))
    assert good.json()["usage"]["prompt_tokens"] == len(ids)
    assert good.json()["choices"] == again.json()["choices"] == last.json()["choices"]
    for answer, said in ((refused, "TemplateError: not this"), (slow, "too much time or memory")):
        assert answer.status_code == 400 and said in answer.json()["error"]["message"]
        assert "\n" not in answer.json()["error"]["message"]
