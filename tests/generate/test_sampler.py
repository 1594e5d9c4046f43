"""The choice of a token where logits and prompt do not go together, or are not numbers."""

from __future__ import annotations

import numpy as np
import pytest

from mindcoder.errors import UserError
from mindcoder.generate.sampler import Sampler, SamplingOptions
from mindcoder.generate.speculative import SpeculativeDecoder


def test_prompt_ids_that_the_tokenizer_does_not_know_have_no_logit_to_penalize():
    """A model with more rows than its tokenizer takes such ids as a prompt."""
    logits = np.array([1.0, 3.0, 2.9, 0.0, 9.0, 9.0], np.float32)
    sampler = Sampler(SamplingOptions(repetition_penalty=1.2), [1, 5, 4], vocab_size=4)
    assert [sampler.choose(logits).token for _ in range(2)] == [2, 1]


def test_speculative_decoding_refuses_what_is_not_a_number_as_plain_decoding_does():
    logits = np.zeros((2, 5), np.float32)
    logits[1, 2] = np.nan
    decoder = object.__new__(SpeculativeDecoder)
    decoder.vocab_size = 4
    with pytest.raises(UserError, match="the network's output is not a number"):
        decoder._choose(logits)
    assert decoder._choose(logits[:1]) == [0]
