"""Chat and the server for the families whose other paths are tested beside their models."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import torch
from families import random_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from mindcoder.data.conversation import Message, encode_conversation
from mindcoder.families.registry import family_of
from mindcoder.generate.chat import Chat
from mindcoder.generate.model import ModelRequest, open_model
from mindcoder.generate.sampler import SamplingOptions
from mindcoder.serve.app import create_app


@pytest.mark.parametrize("family", ["gpt_bigcode", "starcoder2"])
def test_chat_and_server_give_transformers_greedy_tokens(family, tmp_path):
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        ["a b c"], trainers.BpeTrainer(special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    )
    model = random_model(family, vocab_size=backend.get_vocab_size() + 7)
    folder = tmp_path / family
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>").save_pretrained(folder)

    opened = open_model(ModelRequest(str(folder), max_length=310))
    assert opened.template == family_of(family).default_template
    ids = encode_conversation([Message("user", "hi")], opened.template, opened.tokenizer)
    forbidden = list(range(opened.tokenizer.vocab_size, model.config.vocab_size))  # the table's padding rows
    given = torch.tensor([ids])
    done = model.generate(
        given,
        attention_mask=torch.ones_like(given),
        do_sample=False,
        max_new_tokens=12,
        suppress_tokens=forbidden,
        eos_token_id=opened.tokenizer.eos_id,
        pad_token_id=0,
    )
    answer = done[0, len(ids) :].tolist()
    expected = opened.tokenizer.decode(answer, skip_special_tokens=True)

    assert "".join(Chat(opened, SamplingOptions(), 12).ask("hi")) == expected

    async def ask():
        app = create_app(opened)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:
            body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 12, "temperature": 0}
            response = await http.post("/v1/chat/completions", json=body)
        app.state.server.worker.close()
        return response.json()

    assert asyncio.run(ask())["choices"][0]["message"]["content"] == expected
