"""Adapters over HTTP and at the terminal: the request's model names one."""

from __future__ import annotations

import asyncio
import io

import httpx
import peft
import pytest
import torch
from transformers import LlamaForCausalLM

from mindcoder.cli.chat_verb import command
from mindcoder.data.conversation import Message, encode_conversation
from mindcoder.errors import UserError
from mindcoder.generate.chat import Chat
from mindcoder.generate.model import ModelRequest, open_model
from mindcoder.generate.sampler import SamplingOptions
from mindcoder.serve.app import create_app

TOKENS = 10


@pytest.fixture(scope="module")
def theirs(served_folder, tmp_path_factory):
    """PEFT's model with one adapter over the served one, and the adapter's folder."""
    generator = torch.Generator().manual_seed(2)
    options = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])
    model = peft.get_peft_model(LlamaForCausalLM.from_pretrained(served_folder).eval(), options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return model, folder


def opened(served_folder, theirs):
    return open_model(ModelRequest(str(served_folder), max_length=300, adapters=(("polite", str(theirs[1])),)))


def expected(model, opened, adapted: bool) -> str:
    ids = torch.tensor([encode_conversation([Message("user", "hi")], opened.template, opened.tokenizer)])
    options = {"max_new_tokens": TOKENS, "do_sample": False, "eos_token_id": 1, "pad_token_id": 0}
    with torch.no_grad():
        if adapted:
            done = model.generate(input_ids=ids, **options)
        else:
            with model.disable_adapter():
                done = model.generate(input_ids=ids, **options)
    return opened.tokenizer.decode(done[0, ids.shape[1] :].tolist(), skip_special_tokens=True)


def test_the_model_of_a_request_names_its_adapter(served_folder, theirs):
    model = opened(served_folder, theirs)

    async def ask():
        app = create_app(model)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:
            listed = (await http.get("/v1/models")).json()["data"]

            def chat(name):
                body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": TOKENS, "temperature": 0}
                return http.post("/v1/chat/completions", json=body if name is None else {**body, "model": name})

            answers = await asyncio.gather(*(chat(name) for name in ("polite", None, model.name, "rude")))
        app.state.server.worker.close()
        return listed, answers

    listed, (adapted, default, base, unknown) = asyncio.run(ask())
    assert [(item["id"], item.get("parent")) for item in listed] == [(model.name, None), ("polite", model.name)]
    texts = [answer.json()["choices"][0]["message"]["content"] for answer in (adapted, default, base)]
    plain = expected(theirs[0], model, False)
    assert texts == [expected(theirs[0], model, True), plain, plain] and texts[0] != plain
    assert adapted.json()["model"] == "polite"
    assert unknown.status_code == 404 and "available: 'tiny-llama', 'polite'" in unknown.json()["error"]["message"]


def test_a_chat_changes_its_adapter(served_folder, theirs):
    chat = Chat(opened(served_folder, theirs), SamplingOptions(), TOKENS)
    assert "".join(chat.ask("hi")) == expected(theirs[0], chat.model, True)
    chat.reset()
    out = io.StringIO()
    assert command(chat, "/adapter base", out)
    assert out.getvalue() == "adapter: base; available: base, polite\n"
    assert "".join(chat.ask("hi")) == expected(theirs[0], chat.model, False)
    with pytest.raises(UserError, match="no adapter 'rude'; available: polite"):
        command(chat, "/adapter rude", out)


def test_two_adapters_need_two_names(served_folder, theirs):
    place = str(theirs[1])
    with pytest.raises(UserError, match="polite is already taken"):
        open_model(ModelRequest(str(served_folder), adapters=(("polite", place), ("polite", place))))
    with pytest.raises(UserError, match="tiny-llama is the model"):
        open_model(ModelRequest(str(served_folder), adapters=(("tiny-llama", place),)))
