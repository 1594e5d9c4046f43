"""Speculative decoding gives the tokens of plain decoding, whatever the draft."""

from __future__ import annotations

import pytest
from families import VOCAB, reference_tokens

from mindcoder.errors import UserError
from mindcoder.generate.speculative import SpeculativeDecoder


@pytest.mark.parametrize("family", ["gpt_bigcode", "starcoder2", "llama"])
def test_the_tokens_are_transformers_greedy_ones(family, hf_folder, rng):
    model, decoder, _ = hf_folder(family, layers=2)
    speculative = SpeculativeDecoder(decoder, hf_folder(family, layers=2)[1], 160, (), VOCAB, lookahead=3)
    for length in (5, 40):
        prompt = rng.integers(1, VOCAB, length).tolist()
        assert list(speculative.stream(prompt, 60)) == reference_tokens(model, [prompt], 60)[0]
    assert speculative.proposed > 0


def test_a_model_that_drafts_for_itself_is_always_right(hf_folder, rng):
    model, decoder, _ = hf_folder("llama", layers=1)
    speculative = SpeculativeDecoder(decoder, decoder, 128, (), VOCAB, lookahead=4)
    prompt = rng.integers(1, VOCAB, 20).tolist()
    expected = reference_tokens(model, [prompt], 40)[0]
    assert list(speculative.stream(prompt, 40)) == expected
    assert speculative.acceptance == 1.0
    # A second question of the same conversation finds the first one in the cache.
    longer = [*prompt, *expected, 7, 8, 9]
    assert list(speculative.stream(longer, 20)) == reference_tokens(model, [longer], 20)[0]
    assert speculative.reused >= len(prompt)


def test_it_ends_at_a_stop_id_and_at_the_limit(hf_folder, rng):
    model, decoder, _ = hf_folder("llama", layers=1)
    prompt = rng.integers(1, VOCAB, 10).tolist()
    free = reference_tokens(model, [prompt], 30)[0]
    speculative = SpeculativeDecoder(decoder, decoder, 64, (free[9],), VOCAB)
    assert list(speculative.stream(prompt, 30)) == free[: free.index(free[9])]
    speculative = SpeculativeDecoder(decoder, decoder, 25, (), VOCAB)
    assert list(speculative.stream(prompt)) == free[:15]


def test_another_vocabulary_is_refused(hf_folder):
    _, decoder, _ = hf_folder("llama")
    _, other, _ = hf_folder("llama", vocab_size=140)
    with pytest.raises(UserError, match="the draft model has 140 tokens, the model"):
        SpeculativeDecoder(decoder, other, 64, (), VOCAB)
