"""Several end tokens in a model's own files end its answers, as in transformers."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from mindcoder.errors import UserError
from mindcoder.generate.model import ModelRequest, open_model

PROMPT = [5, 9, 17, 3]


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_any_of_several_end_tokens_ends_an_answer(file, hf_folder, tokenizer_folder, rng):
    from transformers import AutoModelForCausalLM

    model, _, folder = hf_folder(vocab_size=701)
    for item in tokenizer_folder.iterdir():
        shutil.copy(item, folder)
    greedy = {"do_sample": False, "max_new_tokens": 12, "pad_token_id": 0}
    plain = model.generate(torch.tensor([PROMPT]), eos_token_id=None, **greedy)
    answer = plain[0, len(PROMPT) :].tolist()
    second = next(token for token in answer[2:] if token not in answer[:2])
    values = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**values, "eos_token_id": [0, second, 10**6]}))
    if file == "config.json":
        (folder / "generation_config.json").unlink()
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    expected = theirs.generate(torch.tensor([PROMPT]), **greedy)
    opened = open_model(ModelRequest(str(folder), None, "plain", max_length=64))
    assert {0, second} <= opened.engine.stop_ids and 10**6 not in opened.engine.stop_ids
    (completion,) = opened.engine.generate([PROMPT], max_new_tokens=12)
    ended = expected[0, len(PROMPT) :].tolist()
    assert [*completion.tokens, second] == ended and completion.stopped_by == second

    (folder / file).write_text(json.dumps({**values, "eos_token_id": second}))  # one id alone
    ended = AutoModelForCausalLM.from_pretrained(folder).generate(torch.tensor([PROMPT]), **greedy)
    opened = open_model(ModelRequest(str(folder), None, "plain", max_length=64))
    (completion,) = opened.engine.generate([PROMPT], max_new_tokens=12)
    assert [*completion.tokens, second] == ended[0, len(PROMPT) :].tolist() and completion.stopped_by == second

    (folder / file).write_text(json.dumps({**values, "eos_token_id": ["x"]}))
    with pytest.raises(UserError, match="eos_token_id: expected a token id"):
        open_model(ModelRequest(str(folder), None, "plain", max_length=64))


WHERE = {  # in config.json, in generation_config.json (None: no such file) -> where transformers ends
    "one id": ({"eos_token_id": 7}, None, {7}),
    "a list": ({"eos_token_id": [7, 9]}, None, {7, 9}),
    "generation_config.json wins": ({"eos_token_id": 7}, {"eos_token_id": 9}, {9}),
    "a list wins over one": ({"eos_token_id": 7}, {"eos_token_id": [9, 11]}, {9, 11}),
    "one wins over a list": ({"eos_token_id": [7, 9]}, {"eos_token_id": 11}, {11}),
    "generation_config.json names none": ({"eos_token_id": [7, 9]}, {}, set()),
    "null": ({"eos_token_id": None}, None, set()),
}


@pytest.mark.parametrize("case", list(WHERE))
def test_the_models_ends_are_those_of_transformers(case, hf_folder):
    from transformers import AutoModelForCausalLM

    from mindcoder.checkpoint.end_tokens import end_tokens
    from mindcoder.checkpoint.weights import open_weights

    in_config, in_generation, expected = WHERE[case]
    _, _, folder = hf_folder(layers=1, vocab_size=701)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **in_config}))
    (folder / "generation_config.json").unlink()
    if in_generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(in_generation))
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    settings, _ = theirs._prepare_generation_config(None)
    theirs._prepare_special_tokens(settings)
    ends = settings._eos_token_tensor
    assert set([] if ends is None else ends.tolist()) == expected
    assert end_tokens(open_weights(folder)) == expected


def test_the_ends_of_another_vocabulary_are_not_taken(hf_folder, tokenizer_folder, small_tokenizer, tmp_path):
    """Id 5 is another token in the tokenizer that is given than in the model's own."""
    from mindcoder.checkpoint.end_tokens import companions_beside, stop_ids
    from mindcoder.checkpoint.weights import open_weights
    from mindcoder.tokenizer import load_tokenizer
    from mindcoder.tokenizer.bpe import train_tokenizer

    _, _, folder = hf_folder(layers=1, vocab_size=701)
    for item in tokenizer_folder.iterdir():
        shutil.copy(item, folder)
    common, rare = 0, small_tokenizer.vocab_size - 3  # special in both; a merge of the model's own
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [common, rare]}))
    weights = open_weights(folder)
    own = load_tokenizer(tokenizer_folder)
    assert stop_ids(weights, own, True) == stop_ids(weights, own, False) == {*own.stop_ids, common, rare}
    train_tokenizer(["zzz yyy xxx " * 50], 300).save(tmp_path / "other")
    other = load_tokenizer(tmp_path / "other")
    assert stop_ids(weights, other, False) == set(other.stop_ids)
    # A run that starts from the model keeps what stays true beside its own tokenizer.
    assert companions_beside(weights, None) == (weights.companions, weights.huggingface_config)
    files, config = companions_beside(weights, own)
    assert list(files) == ["generation_config.json"] and config == weights.huggingface_config
    files, config = companions_beside(weights, other)
    assert not files and config == {**weights.huggingface_config, "eos_token_id": other.eos_id}
