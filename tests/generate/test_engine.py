"""Against transformers' generate with the same weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import reference_tokens

from mindcoder.errors import UserError
from mindcoder.generate.engine import Engine
from mindcoder.generate.sampler import Sampler, SamplingOptions, sampling_distribution


def test_stops_at_end_of_text_and_at_the_limit(hf_folder, rng):
    model, decoder, _ = hf_folder(layers=2, multi_query=True)
    prompts = [rng.integers(1, 131, 6).tolist() for _ in range(2)]
    free = reference_tokens(model, prompts, 30)
    eos = free[0][4]
    engine = Engine(decoder, batch=2, max_length=64, stop_ids=[eos], vocab_size=131)
    first, second = engine.generate(prompts, max_new_tokens=30)
    assert first.tokens == free[0][: free[0].index(eos)] and first.finish_reason == "stop"
    expected = free[1][: free[1].index(eos)] if eos in free[1] else free[1]
    assert second.tokens == expected


def test_operators_compute_a_prompt_where_a_step_has_as_many_sequences_as_tokens(hf_folder, rng, monkeypatch):
    model, decoder, _ = hf_folder("llama", layers=1)
    prompts = [rng.integers(1, 131, length).tolist() for length in (9, 4)]
    monkeypatch.setenv("MINDCODER_NATIVE", "0")
    engine = Engine(decoder, batch=32, max_length=32, stop_ids=(), vocab_size=131)
    assert engine.chunk == engine.batch == 32 and not engine.runner.supports_mixed_batches
    expected = reference_tokens(model, prompts, 6)
    assert [item.tokens for item in engine.generate(prompts, max_new_tokens=6)] == expected


def test_refuses_what_cannot_fit(hf_folder):
    _, decoder, _ = hf_folder(layers=2, multi_query=True)
    with pytest.raises(UserError, match="over the model's 320 positions"):
        Engine(decoder, 1, 400, (), 131)
    engine = Engine(decoder, 1, 64, (), 131)
    with pytest.raises(UserError, match="leaves no room"):
        engine.generate([[1] * 64])
    with pytest.raises(UserError, match="prompt 0 is empty"):
        engine.generate([[]])


@pytest.mark.parametrize(
    "options",
    [
        SamplingOptions(True, 0.7),
        SamplingOptions(True, 1.3, top_k=7),
        SamplingOptions(True, 0.9, top_p=0.8),
        SamplingOptions(True, 1.0, 20, 0.5),
    ],
)
def test_sampling_distribution_equals_huggingface_processors(options, rng):
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = rng.standard_normal(100).astype(np.float32) * 3
    processors = LogitsProcessorList([TemperatureLogitsWarper(options.temperature)])
    if options.top_k:
        processors.append(TopKLogitsWarper(options.top_k))
    if options.top_p < 1:
        processors.append(TopPLogitsWarper(options.top_p))
    expected = processors(torch.zeros(1, 1, dtype=torch.long), torch.tensor(logits)[None]).softmax(-1)[0].numpy()
    np.testing.assert_allclose(sampling_distribution(logits, options), expected, atol=1e-6)


def test_repetition_penalty_equals_huggingface(rng):
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = rng.standard_normal((1, 50)).astype(np.float32)
    prompt = [3, 7, int(logits.argmax())]
    expected = RepetitionPenaltyLogitsProcessor(1.8)(torch.tensor([prompt]), torch.tensor(logits)).argmax().item()
    assert Sampler(SamplingOptions(repetition_penalty=1.8), prompt, 50).choose(logits[0]).token == expected


def test_samples_repeat_with_the_seed_and_follow_the_distribution(rng):
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))

    def draw(seed):
        rows = [Sampler(SamplingOptions(True, seed=seed), [0], 3, row) for row in range(2000)]
        return np.array([row.choose(logits).token for row in rows])

    assert (draw(1) == draw(1)).all() and (draw(1) != draw(2)).any()
    np.testing.assert_allclose(np.bincount(draw(1)) / 2000, [0.5, 0.3, 0.2], atol=0.04)
