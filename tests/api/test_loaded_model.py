"""`mindcoder.load`: tokens and logits equal transformers', streams, adapters, several models, threads, wrong input."""

from __future__ import annotations

import shutil
import threading

import numpy as np
import peft
import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

import mindcoder
from mindcoder.cli.main import main
from mindcoder.errors import UserError

LLAMA_CHAT = (
    "{% if messages[0]['role'] == 'system' %}{% set ns = namespace(system='<<SYS>>\\n' + messages[0]['content'] + "
    "'\\n<</SYS>>\\n\\n') %}{% set talk = messages[1:] %}{% else %}{% set ns = namespace(system='') %}"
    "{% set talk = messages %}{% endif %}{% for message in talk %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + (ns.system if loop.first else '') + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
PROMPTS = ["def add(a, b):", "import os", "for item in range(10):\n    print(item, end='')"]
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "sort a list"},
    {"role": "assistant", "content": "sorted(items)"},
    {"role": "user", "content": "backwards"},
]


@pytest.fixture(scope="module")
def model(served_folder):
    return mindcoder.load(served_folder, max_length=256, batch=2, device="CPU")


@pytest.fixture(scope="module")
def theirs(served_folder):
    return LlamaForCausalLM.from_pretrained(served_folder).eval()


def test_generate_gives_transformers_greedy_tokens(model, offline):
    answer = model.generate(PROMPTS[0], max_new_tokens=30)
    ids = model.tokenizer.encode(PROMPTS[0])
    assert list(answer.tokens) == offline(ids, 30) and answer.prompt_tokens == len(ids)
    assert answer.text == str(answer) == model.tokenizer.decode(answer.tokens, skip_special_tokens=True)
    assert answer.finish_reason == ("length" if len(answer.tokens) == 30 else "stop")
    assert model.generate(ids, max_new_tokens=30) == answer == model.generate(np.array(ids), max_new_tokens=30)


def test_a_list_is_answered_in_its_order_two_at_a_time(model, offline):
    answers = model.generate(PROMPTS * 2, max_new_tokens=12)
    wanted = [offline(model.tokenizer.encode(prompt), 12) for prompt in PROMPTS]
    assert [list(answer.tokens) for answer in answers] == wanted * 2
    ids = [model.tokenizer.encode(prompt) for prompt in PROMPTS]
    assert model.generate(ids, max_new_tokens=12) == answers[:3]
    assert model.generate([]) == []


def test_streams_give_the_text_of_the_answer_piece_by_piece(model):
    answer = model.generate(PROMPTS[0], max_new_tokens=20)
    pieces = list(model.generate(PROMPTS[0], max_new_tokens=20, stream=True))
    assert "".join(pieces) == answer.text and len(pieces) > 5
    answers = model.generate(PROMPTS, max_new_tokens=15)
    texts = [""] * 3
    for index, piece in model.generate(PROMPTS, max_new_tokens=15, stream=True):
        texts[index] += piece
    assert texts == [item.text for item in answers]


def test_streams_may_be_read_in_turns_and_closed(model):
    whole = [model.generate(prompt, max_new_tokens=25).text for prompt in PROMPTS[:2]]
    first, second = (model.generate(prompt, max_new_tokens=25, stream=True) for prompt in PROMPTS[:2])
    texts = ["", ""]
    for pieces in zip(first, second):
        texts = [text + piece for text, piece in zip(texts, pieces)]
    assert all(text and whole.startswith(text) for text, whole in zip(texts, whole))
    for stream in (first, second):
        stream.close()
    closed = model.generate(PROMPTS[2], max_new_tokens=100, stream=True)
    next(closed)
    closed.close()
    unread = model.generate(PROMPTS[2], stream=True)  # nothing is submitted before it is read
    assert not model.engine.busy and model.engine.pool.free == model.engine.pool.usable
    del unread


def test_a_stop_text_ends_an_answer_and_its_neighbour_goes_on(model):
    whole = model.generate(PROMPTS, max_new_tokens=20)
    stop = whole[0].text[6:9]
    answers = model.generate(PROMPTS, max_new_tokens=20, stop=stop)
    assert stop and answers[0].text == whole[0].text[: whole[0].text.index(stop)]
    assert answers[0].finish_reason == "stop" and len(answers[0].tokens) < len(whole[0].tokens)
    for found, item in zip(answers[1:], whole[1:]):
        assert found.text == item.text.split(stop)[0]
    assert model.generate(PROMPTS[0], max_new_tokens=20, stop=["never there", stop]).text == answers[0].text


def test_sampling_repeats_with_its_seed_and_differs_among_prompts(model):
    def sample(prompt, seed):
        return model.generate(prompt, max_new_tokens=15, temperature=1.2, top_k=50, top_p=0.95, seed=seed)

    first = sample([PROMPTS[0]] * 2, 3)
    assert first == sample([PROMPTS[0]] * 2, 3) and first[0].tokens != first[1].tokens
    assert sample(PROMPTS[0], 4).tokens != first[0].tokens == sample(PROMPTS[0], 3).tokens
    greedy = model.generate(PROMPTS[0], max_new_tokens=15)
    assert model.generate(PROMPTS[0], max_new_tokens=15, repetition_penalty=5.0).tokens != greedy.tokens


def test_chat_asks_in_the_models_template_as_transformers_does(model, theirs, served_folder):
    tokenizer = AutoTokenizer.from_pretrained(served_folder)
    for talk in (TALK, TALK[1:2]):
        ids = tokenizer.apply_chat_template(talk, chat_template=LLAMA_CHAT, add_generation_prompt=True)
        assert model.encode_chat(talk) == ids
        given = torch.tensor([ids])
        done = theirs.generate(given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=20)
        wanted = tokenizer.decode(done[0, len(ids) :], skip_special_tokens=True)
        answer = model.chat(talk, max_new_tokens=20)
        assert answer.text == wanted and answer.prompt_tokens == len(ids)
        assert "".join(model.chat(talk, max_new_tokens=20, stream=True)) == wanted
    assert model.template == "llama2-chat"
    assert model.chat("sort a list", max_new_tokens=20) == answer


def test_chat_uses_the_template_that_is_asked_for(served_folder, model):
    plain = mindcoder.load(served_folder, template="plain", max_length=64, device="CPU")
    assert plain.encode_chat(TALK[1:2]) == plain.tokenizer.encode("sort a list") != model.encode_chat(TALK[1:2])


def test_logits_are_transformers(model, theirs, rng):
    vocabulary = theirs.config.vocab_size
    for length in (1, 7, 200):
        ids = rng.integers(0, vocabulary, length)
        with torch.no_grad():
            wanted = theirs(torch.tensor(ids[None])).logits[0].numpy()
        found = model.logits(ids)
        assert found.dtype == np.float32 and found.shape == (length, vocabulary)
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    batch = rng.integers(0, vocabulary, (3, 9))
    with torch.no_grad():
        wanted = theirs(torch.tensor(batch)).logits.numpy()
    np.testing.assert_allclose(model.logits(batch.tolist()), wanted, atol=1e-4)


def test_logits_with_mindspores_own_operators_too(served_folder, theirs, offline, rng, monkeypatch):
    monkeypatch.setenv("MINDCODER_NATIVE", "0")
    composed = mindcoder.load(served_folder, max_length=96, device="CPU")
    assert not composed.engine.runner.mixes
    ids = rng.integers(0, theirs.config.vocab_size, 50)
    with torch.no_grad():
        wanted = theirs(torch.tensor(ids[None])).logits[0].numpy()
    np.testing.assert_allclose(composed.logits(ids), wanted, atol=1e-4)
    prompt = composed.tokenizer.encode(PROMPTS[0])
    assert list(composed.generate(prompt, max_new_tokens=10).tokens) == offline(prompt, 10) != []


@pytest.fixture(scope="module")
def adapted(served_folder, tmp_path_factory):
    """Two adapters by PEFT, its model with both, and ours."""
    folder = tmp_path_factory.mktemp("adapters")
    base = LlamaForCausalLM.from_pretrained(served_folder).eval()
    theirs = peft.get_peft_model(base, peft.LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"]), "one")
    theirs.add_adapter("two", peft.LoraConfig(r=2, lora_alpha=2, target_modules=["down_proj"]))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    theirs.save_pretrained(folder, selected_adapters=["one", "two"])
    places = {"one": folder / "one", "two": str(folder / "two")}
    return theirs, mindcoder.load(served_folder, adapters=places, max_length=128, device="CPU"), places


def test_every_call_chooses_its_adapter(adapted, model):
    theirs, ours, _ = adapted
    assert ours.adapters == ("one", "two")
    ids = ours.tokenizer.encode(PROMPTS[2])
    given = torch.tensor([ids])
    seen = set()
    for adapter in ("two", None, "one"):
        if adapter is not None:
            theirs.set_adapter(adapter)
            with torch.no_grad():
                done = theirs.generate(input_ids=given, do_sample=False, max_new_tokens=10, eos_token_id=None)
                logits = theirs(given).logits[0].numpy()
            answer = done[0, len(ids) :].tolist()
            wanted = answer[: answer.index(1)] if 1 in answer else answer
            np.testing.assert_allclose(ours.logits(ids, adapter=adapter), logits, atol=1e-4)
        else:
            wanted = list(model.generate(ids, max_new_tokens=10).tokens)
            np.testing.assert_allclose(ours.logits(ids), model.logits(ids), atol=1e-5)
        found = ours.generate(ids, max_new_tokens=10, adapter=adapter)
        assert list(found.tokens) == wanted
        seen.add(found.tokens)
    assert len(seen) == 3


def test_two_models_in_one_process_do_not_disturb_each_other(model, served_folder, tmp_path, offline):
    from families import random_model

    other = random_model("llama", vocab_size=model.decoder.config.vocab_size, bos_token_id=0, eos_token_id=1)
    other.save_pretrained(tmp_path / "other")
    for file in served_folder.glob("*token*"):
        shutil.copy(file, tmp_path / "other")
    second = mindcoder.load(tmp_path / "other", max_length=100, device="CPU")
    ids = model.tokenizer.encode(PROMPTS[0])
    given = torch.tensor([ids])
    done = other.generate(given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=12)
    wanted = done[0, len(ids) :].tolist()
    wanted = wanted[: wanted.index(1)] if 1 in wanted else wanted
    streams = model.generate(ids, max_new_tokens=12), second.generate(ids, max_new_tokens=12)
    assert [list(answer.tokens) for answer in streams] == [offline(ids, 12), wanted]
    both = zip(
        model.generate(PROMPTS[0], max_new_tokens=12, stream=True),
        second.generate(PROMPTS[0], max_new_tokens=12, stream=True),
    )
    assert len(list(both)) > 3
    assert repr(second) == "Model('other', llama, 0.127 M parameters, template 'llama2-chat')"


def test_threads_share_a_model_and_load_their_own(model, served_folder):
    wanted = {prompt: model.generate(prompt, max_new_tokens=20) for prompt in PROMPTS}
    found: dict = {}
    failed: list[BaseException] = []

    def ask(number: int, prompt: str) -> None:
        try:
            if number == 5:
                own = mindcoder.load(served_folder, max_length=64, device="CPU")
                found[number] = own.generate(prompt, max_new_tokens=20) == wanted[prompt]
            elif number % 2:
                found[number] = "".join(model.generate(prompt, max_new_tokens=20, stream=True)) == wanted[prompt].text
            else:
                found[number] = model.generate([prompt, prompt], max_new_tokens=20) == [wanted[prompt]] * 2
                model.logits([1, 2, 3])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(number, PROMPTS[number % 3])) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed and found == dict.fromkeys(range(6), True)
    assert not model.engine.busy and model.engine.pool.free == model.engine.pool.usable


def test_complete_prints_what_generate_gives(tokenizer_folder, tmp_path, capsys):
    from families import random_model

    random_model(vocab_size=701).save_pretrained(tmp_path / "starcoder")
    for item in tokenizer_folder.iterdir():
        shutil.copy(item, tmp_path / "starcoder")
    filler = mindcoder.load(tmp_path / "starcoder", max_length=64, device="CPU")
    answer = filler.generate("def f(", suffix="return x", max_new_tokens=8)
    assert answer.prompt_tokens == len(filler.tokenizer.encode_infill("def f(", "return x"))
    command = ["complete", str(tmp_path / "starcoder"), "--prefix", "def f(", "--suffix", "return x"]
    assert main([*command, "--max_output_length", "8", "--max_length", "64"]) == 0
    assert capsys.readouterr().out == answer.text + "\n"


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m: m.generate(""), "prompt 0 is empty"),
        (lambda m: m.generate(["a", ""]), "prompt 1 is empty"),
        (lambda m: m.generate([]) or m.generate(5), "prompt: expected a text or a list, found 5"),
        (lambda m: m.generate(["a", 5.0]), "prompt 1: expected a text or a list of token ids, found 5.0"),
        (lambda m: m.generate([1, 10**6]), "prompt 0: expected token ids from 0 to 599, found 1000000"),
        (lambda m: m.generate("a " * 400), "leaves no room for an answer within max_length 256"),
        (lambda m: m.generate("a " * 400, stream=True), "leaves no room for an answer within max_length 256"),
        (lambda m: m.generate("a", temperature=-1), "temperature: expected a number from 0 to 1e+06, found -1"),
        (lambda m: m.generate("a", temperature="hot"), "temperature: expected a number from 0 to 1e+06, found 'hot'"),
        (lambda m: m.generate("a", temperature=float("nan")), "temperature: expected a number from 0"),
        (lambda m: m.generate("a", top_p=0), "top_p: expected a number above 0 to 1, found 0"),
        (lambda m: m.generate("a", top_k=-1), "top_k: expected a whole number from 0"),
        (lambda m: m.generate("a", seed=2**32), "seed: expected a whole number from 0 to 4294967295"),
        (lambda m: m.generate("a", max_new_tokens=0), "max_new_tokens: expected a whole number from 1"),
        (lambda m: m.generate("a", max_new_tokens=True), "max_new_tokens: expected a whole number from 1"),
        (lambda m: m.generate("a", stop=[3]), "stop: expected a text or a list of texts, found [3]"),
        (lambda m: m.generate("a", stop=3), "stop: expected a text or a list of texts, found 3"),
        (lambda m: m.generate("a", adapter="sql"), "no adapter 'sql'; available: none"),
        (lambda m: m.generate("a", suffix="b"), "this tokenizer has no fill-in-the-middle tokens"),
        (lambda m: m.generate(["a"], suffix="b"), "suffix: expected two texts"),
        (lambda m: m.chat([]), "messages: the last message has to be the user's"),
        (lambda m: m.chat(TALK[:3]), "messages: the last message has to be the user's"),
        (lambda m: m.chat(TALK[2:]), "messages: message 0 is the assistant's where the user's is expected"),
        (lambda m: m.chat([{"role": "usr", "content": "a"}]), "messages: turn 0: expected a role (system, developer"),
        (lambda m: m.chat([{"role": "user", "content": 5}]), "messages: turn 0: expected a text, found int"),
        (lambda m: m.chat([{"role": "user", "content": "a", "tone": "b"}]), "messages: unknown field turn.tone"),
        (lambda m: m.chat([{"role": "user", "content": "a", "tone": 1}]), "messages: unknown field turn.tone"),
        (lambda m: m.chat(5), "messages: expected a list, found int"),
        (lambda m: m.chat("a\udce9"), r"messages: user: expected a text, found a surrogate ('\udce9') in it"),
        (lambda m: m.generate("a\ud800b"), r"prompt 0: expected a text, found a surrogate ('\ud800') in it"),
        (lambda m: m.generate(["a", "\ud800"]), "prompt 1: expected a text, found a surrogate"),
        (lambda m: m.generate("a", temperature=10**400), "temperature: expected a number from 0 to 1e+06, found 1000"),
        (lambda m: m.generate("a", top_p=10**5000), "found a number of more than 4300 digits"),
        (lambda m: m.generate("a", repetition_penalty=-(10**400)), "repetition_penalty: expected a number above 0"),
        (lambda m: m.generate("a", stream="no"), "stream: expected True or False, found 'no'"),
        (lambda m: m.chat("a " * 400), "leaves no room for an answer within max_length 256"),
        (lambda m: m.logits([]), "ids: expected token ids [S] or [B, S], found []"),
        (lambda m: m.logits("abc"), "ids: expected token ids [S] or [B, S], found 'abc'"),
        (lambda m: m.logits([[1, 2], [3]]), "ids: expected token ids [S] or [B, S]"),
        (lambda m: m.logits([1.5]), "ids: expected token ids [S] or [B, S]"),
        (lambda m: m.logits([-1]), "ids: expected token ids from 0 to 599, found -1"),
        (lambda m: m.logits([1] * 257), "ids: 257 are more than max_length 256"),
        (lambda m: m.logits([1], adapter="sql"), "no adapter 'sql'; available: none"),
    ],
)
def test_wrong_input_is_one_line(call, message, model):
    with pytest.raises(UserError) as error:
        call(model)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not model.engine.busy


def test_an_unknown_option_is_pythons_own_error(model):
    with pytest.raises(TypeError, match="temprature"):
        model.generate("a", temprature=1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"path": "nowhere"}, "nowhere: no such"),
        ({"path": "bigcode/starcoder2-3b"}, "are not downloaded by name"),
        ({"dtype": "int7"}, "dtype: expected one of float32, float16, bfloat16, found 'int7'"),
        ({"device": "GPU"}, "device: expected one of auto, CPU, Ascend, found 'GPU'"),
        ({"batch": 0}, "batch: expected a whole number of at least 1, found 0"),
        ({"max_length": 4.5}, "max_length: expected a whole number of at least 1, found 4.5"),
        ({"max_length": 64, "blocks": 1}, "1 cache blocks of 16 tokens are less than one text of 64 tokens"),
        ({"batch": 10**12}, "batch: expected a whole number of at most 2147483647, found 1000000000000"),
        ({"blocks": 10**5000}, "blocks: expected a whole number of at most 2147483647, found a number of more than"),
        ({"device_id": "a"}, "device_id: expected a whole number from 0 on, found 'a'"),
        ({"device_id": None}, "device_id: expected a whole number from 0 on, found None"),
        ({"path": ""}, "path: expected a path, found ''"),
        ({"path": "a" * 5000}, ": File name too long"),
        ({"path": "a\0b"}, r"path: expected a path, found 'a\x00b'"),
        ({"path": "a\ud800"}, r"path: expected a path, found 'a\ud800'"),
        ({"path": None}, "path: expected a path, found None"),
        ({"template": [1]}, "template: expected a name, found [1]"),
        ({"template": "mine"}, "no template 'mine'; available: wizardcoder"),
        ({"tokenizer": "nowhere"}, "nowhere: no such tokenizer"),
        ({"adapters": {"a": "nowhere"}}, "nowhere: no such"),
        ({"adapters": "nowhere"}, "adapters: expected names and paths"),
        ({"adapters": [("a", 5)]}, "adapters: expected names and paths"),
        ({"adapters": {"tiny-llama": "x"}}, "tiny-llama is the model"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(options, message, served_folder):
    with pytest.raises(mindcoder.UserError) as error:
        mindcoder.load(**{"path": served_folder, "device": "CPU", **options})
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_adapter_is_not_given_twice(adapted, served_folder):
    *_, places = adapted
    with pytest.raises(UserError, match="one is already taken"):
        mindcoder.load(served_folder, adapters=[("one", places["one"]), ("one", places["two"])], device="CPU")
