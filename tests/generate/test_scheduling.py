"""Requests that come, go, wait and share: always with the tokens each gets alone."""

from __future__ import annotations

import os

import numpy as np
import pytest
from families import VOCAB, reference_tokens

from mindcoder.backend.native import SWITCH, native_available
from mindcoder.errors import UserError
from mindcoder.generate.blocks import BlockPool
from mindcoder.generate.engine import Engine
from mindcoder.generate.request import Request
from mindcoder.generate.sampler import SamplingOptions


@pytest.fixture(params=["native", "composed"])
def operators(request, monkeypatch):
    """Both ways to compute a step."""
    monkeypatch.setitem(os.environ, SWITCH, "1" if request.param == "native" else "0")
    if request.param == "native" and not native_available():
        pytest.skip("the C++ operators are not built (no compiler)")
    return request.param


@pytest.fixture
def network(hf_folder):
    model, decoder, _ = hf_folder("llama", layers=1)
    return model, decoder


def prompts_of(rng, *lengths):
    return [tuple(rng.integers(1, VOCAB, length).tolist()) for length in lengths]


def run(engine):
    while engine.busy:
        engine.step()


def assert_nothing_leaks(engine):
    assert engine.pool.free == engine.pool.usable
    assert not engine.scheduler.running and not engine.scheduler.waiting


def test_requests_join_and_leave_and_get_the_tokens_each_gets_alone(operators, network, rng):
    model, decoder = network
    engine = Engine(decoder, batch=3, max_length=96, stop_ids=(), vocab_size=VOCAB, longest_prompt=32)
    prompts = prompts_of(rng, 7, 50, 21, 3, 33)
    limits = [25, 5, 40, 12, 30]
    waiting = [Request(prompt, max_new_tokens=limit) for prompt, limit in zip(prompts, limits)]
    sequences, steps = [], 0
    while engine.busy or waiting:
        if waiting and steps % 4 == 0:
            sequences.append(engine.submit(waiting.pop(0)))
        engine.step()
        steps += 1
    for sequence, prompt, limit in zip(sequences, prompts, limits):
        assert sequence.answer == reference_tokens(model, [list(prompt)], limit)[0]
        assert sequence.finish_reason == "length"
    assert_nothing_leaks(engine)


def test_a_full_cache_makes_requests_wait_and_loses_none(operators, network, rng):
    model, decoder = network
    engine = Engine(decoder, 4, 64, (), VOCAB, longest_prompt=32, blocks=5, reuses_prefixes=False)
    prompts = prompts_of(rng, 20, 17, 30, 9)
    sequences = [engine.submit(Request(prompt, max_new_tokens=30)) for prompt in prompts]
    run(engine)
    assert sum(sequence.preempted for sequence in sequences) > 0
    for sequence, prompt in zip(sequences, prompts):
        assert sequence.answer == reference_tokens(model, [list(prompt)], 30)[0]
    assert_nothing_leaks(engine)


def test_sampling_goes_on_where_it_was_when_a_sequence_had_to_start_over(operators, network, rng):
    _, decoder = network
    prompts = prompts_of(rng, 20, 17, 30, 9)
    options = SamplingOptions(True, 0.8, seed=3)

    def answers(**cache):
        engine = Engine(decoder, 4, 64, (), VOCAB, longest_prompt=32, **cache)
        rows = [Request(prompt, options, 30, row=row) for row, prompt in enumerate(prompts)]
        sequences = [engine.submit(row) for row in rows]
        run(engine)
        return [sequence.answer for sequence in sequences]

    assert answers(blocks=5) == answers()


def test_replicas_that_share_prompts_draw_as_one_does(network, rng):
    _, decoder = network
    prompts, options = prompts_of(rng, 9, 5, 12, 7), SamplingOptions(True, 0.9, seed=4)

    def answers(rows):
        engine = Engine(decoder, 2, 64, (), VOCAB, longest_prompt=32)
        *_, (completions, _) = engine.stream([prompts[row] for row in rows], options, 15, rows)
        return dict(zip(rows, (item.tokens for item in completions)))

    assert answers(range(0, 4, 2)) | answers(range(1, 4, 2)) == answers(range(4))


def test_prompts_that_begin_alike_share_their_beginning(operators, network, rng):
    model, decoder = network
    engine = Engine(decoder, 2, 128, (), VOCAB, longest_prompt=32)
    (shared,) = prompts_of(rng, 50)
    tails = prompts_of(rng, 9, 14)
    sequences = []
    for tail in tails:
        sequences.append(engine.submit(Request(shared + tail, max_new_tokens=20)))
        run(engine)
    assert [sequence.reused for sequence in sequences] == [0, 48]  # three whole blocks of 16
    for sequence, tail in zip(sequences, tails):
        assert sequence.answer == reference_tokens(model, [list(shared + tail)], 20)[0]
    again = engine.submit(Request(shared + tails[0], max_new_tokens=20))
    run(engine)
    assert again.answer == sequences[0].answer and again.reused == 48
    assert_nothing_leaks(engine)


def test_a_cancelled_request_leaves_at_once_and_the_others_go_on(operators, network, rng):
    model, decoder = network
    engine = Engine(decoder, 2, 96, (), VOCAB, longest_prompt=32)
    first, second, third = (engine.submit(Request(prompt, max_new_tokens=30)) for prompt in prompts_of(rng, 12, 40, 8))
    for _ in range(6):
        engine.step()
    engine.cancel(first)
    engine.cancel(first)
    run(engine)
    assert first.finish_reason == "cancelled" and len(first.answer) < 30
    for sequence in (second, third):
        assert sequence.answer == reference_tokens(model, [list(sequence.request.prompt)], 30)[0]
    assert_nothing_leaks(engine)


def test_an_abandoned_stream_gives_its_cache_back(operators, network, rng):
    _, decoder = network
    engine = Engine(decoder, 2, 96, (), VOCAB)
    stream = engine.stream(prompts_of(rng, 12, 9), max_new_tokens=20)
    next(stream)
    stream.close()
    assert_nothing_leaks(engine)


def test_logprobs_are_the_models_own(network, rng):
    import torch

    model, decoder = network
    engine = Engine(decoder, 1, 64, (), VOCAB)
    (prompt,) = prompts_of(rng, 10)
    engine.submit(Request(prompt, SamplingOptions(temperature=0.3), 1, logprobs=4))
    (event,) = engine.step()
    with torch.no_grad():
        expected = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
    assert event.choice.logprob == pytest.approx(expected[event.choice.token].item(), abs=1e-4)
    top = expected.topk(4)
    assert [token for token, _ in event.choice.top] == top.indices.tolist()
    np.testing.assert_allclose([value for _, value in event.choice.top], top.values, atol=1e-4)


def test_a_cache_that_is_too_small_for_one_text_is_refused(network):
    with pytest.raises(UserError, match="3 cache blocks of 16 tokens are less than one text of 64 tokens"):
        Engine(network[1], 1, 64, (), VOCAB, blocks=3)


def test_blocks_are_kept_until_their_place_is_needed():
    pool = BlockPool(4, 2)
    first, second = pool.take(), pool.take()
    hashes = pool.take_prefix([1, 2, 3])[1]
    assert hashes == [] and pool.free == 1
    from mindcoder.generate.blocks import block_hash

    pool.register(first, block_hash(b"", [1, 2]))
    pool.release(first)
    pool.release(second)
    assert pool.take_prefix([1, 2]) == ([], [])  # one token has to be left to compute
    assert pool.take_prefix([1, 2, 3])[0] == [first]
    pool.release(first)
    taken = [pool.take() for _ in range(3)]
    assert taken[-1] == first and pool.take() is None  # what holds a prefix goes last
    assert pool.take_prefix([1, 2, 3]) == ([], [])
