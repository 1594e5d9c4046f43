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

    (folder / file).write_text(json.dumps({**values, "eos_token_id": ["x"]}))
    with pytest.raises(UserError, match="eos_token_id: expected a token id"):
        open_model(ModelRequest(str(folder), None, "plain", max_length=64))
