"""MindFormers' own pipeline with our classes on the emulator, against transformers."""

from __future__ import annotations

import pytest
import torch
from interop.test_mindformers import PIPELINE, run

from softcann.environment import emulator_environment

pytestmark = pytest.mark.long


def test_pipeline_gives_huggingfaces_tokens(hf_folder, tokenizer_folder, small_tokenizer, tmp_path):
    model, _, folder = hf_folder(vocab_size=700, multi_query=True)
    names = {"checkpoint": str(folder), "tokenizer": str(tokenizer_folder)}
    screen = run(PIPELINE, tmp_path, environment=emulator_environment(), **names)
    prompt = torch.tensor([small_tokenizer.encode("def f(x):")])
    tokens = model.generate(prompt, do_sample=False, max_length=40, pad_token_id=699)[0].tolist()
    assert f"ANSWER {ascii(small_tokenizer.decode(tokens, skip_special_tokens=True))}" in screen
