"""Several adapters on one base model, chosen by each request: PEFT's tokens, the base model's untouched."""

from __future__ import annotations

import numpy as np
import peft
import pytest
import torch
from families import VOCAB, random_model

from mindcoder.backend.native import native_available
from mindcoder.checkpoint.weights import open_adapter, open_weights
from mindcoder.errors import UserError
from mindcoder.generate.engine import Engine
from mindcoder.generate.model import ModelRequest
from mindcoder.generate.request import Request
from mindcoder.models.decoder import Decoder

NEW_TOKENS = 12
MODULES = {
    "llama": (["q_proj", "v_proj"], ["gate_proj", "up_proj", "down_proj", "o_proj", "k_proj"]),
    "starcoder2": (["q_proj", "v_proj"], ["c_fc", "c_proj", "o_proj"]),
    "gpt_bigcode": (["c_attn"], ["c_fc", "c_proj"]),
}


@pytest.fixture(params=["native", "composed"])
def operators(request, monkeypatch):
    if request.param == "composed":
        monkeypatch.setenv("MINDCODER_NATIVE", "0")
    elif not native_available():
        pytest.skip("the C++ operators are not built")
    return request.param


def folders_of(family: str, folder):
    """A base model and two adapters that PEFT made for it; PEFT's model with both."""
    model = random_model(family, layers=2).eval()
    model.save_pretrained(folder / "base")
    generator = torch.Generator().manual_seed(5)
    first, second = MODULES[family]
    theirs = peft.get_peft_model(model, peft.LoraConfig(r=3, lora_alpha=6, target_modules=first), "first")
    theirs.add_adapter("second", peft.LoraConfig(r=18, lora_alpha=9, target_modules=second, use_rslora=True))
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    theirs.save_pretrained(folder / "adapters", selected_adapters=["first", "second"])
    return theirs


def expected(theirs, prompt, adapter):
    ids = torch.tensor([prompt])
    options = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with torch.no_grad():
        if adapter is None:
            with theirs.disable_adapter():
                return theirs.generate(input_ids=ids, **options)[0, len(prompt) :].tolist()
        theirs.set_adapter(adapter)
        return theirs.generate(input_ids=ids, **options)[0, len(prompt) :].tolist()


def engine_of(folder, names=("first", "second")) -> Engine:
    from mindcoder.checkpoint.load import load_weights

    config = open_weights(folder / "base").config
    decoder = Decoder(config, empty=True)
    load_weights(decoder, folder / "base")
    adapters = {name: open_adapter(folder / "adapters" / name, config) for name in names}
    return Engine(decoder, 4, 128, (), VOCAB, adapters=adapters)


def answers(engine: Engine, asked) -> list[list[int]]:
    sequences = [
        engine.submit(Request(tuple(prompt), max_new_tokens=NEW_TOKENS, adapter=adapter)) for prompt, adapter in asked
    ]
    while engine.busy:
        engine.step()
    return [sequence.answer for sequence in sequences]


@pytest.mark.parametrize("family", MODULES)
def test_each_request_gets_the_tokens_of_its_adapter(family, operators, tmp_path, rng):
    theirs = folders_of(family, tmp_path)
    prompts = [rng.integers(1, VOCAB, size).tolist() for size in (5, 33, 17)]
    asked = [(prompt, adapter) for prompt in prompts for adapter in ("second", None, "first")]
    wanted = [expected(theirs, *item) for item in asked]
    assert wanted[0] != wanted[1] != wanted[2]
    engine = engine_of(tmp_path)
    assert engine.adapters == ("first", "second")
    assert answers(engine, asked) == wanted  # nine requests, four at a time, adapters between one another


def test_a_prompts_cache_serves_its_own_adapter_only(operators, tmp_path, rng):
    theirs = folders_of("llama", tmp_path)
    engine, prompt = engine_of(tmp_path), rng.integers(1, VOCAB, 50).tolist()
    for adapter in ("first", "second", None):
        for again in (False, True):
            sequence = engine.submit(Request(tuple(prompt), max_new_tokens=NEW_TOKENS, adapter=adapter))
            while engine.busy:
                engine.step()
            assert sequence.answer == expected(theirs, prompt, adapter)
            assert sequence.reused == (48 if again else 0)


def test_adapters_beside_it_change_no_bit_of_the_base_models_logits(tmp_path, rng):
    if not native_available():
        pytest.skip("the C++ operators are not built")
    folders_of("llama", tmp_path)
    prompt = tuple(rng.integers(1, VOCAB, 20).tolist())

    def logprobs(engine, others):
        sequence = engine.submit(Request(prompt, max_new_tokens=8, logprobs=VOCAB))
        for adapter in others:
            engine.submit(Request(prompt, max_new_tokens=8, adapter=adapter))
        seen = []
        while engine.busy:
            for event in engine.step():
                if event.sequence is sequence and event.choice is not None:
                    seen.append([value for _, value in event.choice.top])
        return np.array(seen)

    plain = logprobs(engine_of(tmp_path, ()), ())
    assert np.array_equal(logprobs(engine_of(tmp_path), ("second", "first")), plain)


def test_adapters_that_are_not_there_or_do_not_fit_are_refused(tmp_path):
    folders_of("llama", tmp_path)
    engine = engine_of(tmp_path)
    with pytest.raises(UserError, match="no adapter 'third'; available: first, second"):
        engine.submit(Request((1, 2), adapter="third"))
    other = random_model("llama", hidden_size=64)
    other.save_pretrained(tmp_path / "wider")
    with pytest.raises(UserError, match="does not fit its base model: layers.0"):
        open_adapter(tmp_path / "adapters" / "first", open_weights(tmp_path / "wider").config)
    with pytest.raises(UserError, match="is not an adapter"):
        open_adapter(tmp_path / "base", open_weights(tmp_path / "base").config)
    assert ModelRequest("x").adapters == ()
