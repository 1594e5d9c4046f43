"""Sliding windows: blocks out of sight are free again, and nobody's tokens change."""

from __future__ import annotations

import os

import numpy as np
import pytest
from families import VOCAB, reference_tokens

from mindcoder.backend.native import SWITCH
from mindcoder.generate.blocks import SCRATCH, BlockPool, block_hash, blocks_at_once
from mindcoder.generate.engine import Engine
from mindcoder.generate.request import Request, Sequence
from mindcoder.generate.scheduler import Scheduler

WINDOW = 40


def run(engine: Engine, *prompts, new_tokens: int) -> tuple[list, int]:
    """The sequences, and the most blocks that were taken at once."""
    sequences = [engine.submit(Request(tuple(prompt), max_new_tokens=new_tokens)) for prompt in prompts]
    most = 0
    while engine.busy:
        engine.step()
        most = max(most, engine.pool.usable - engine.pool.free)
    assert engine.pool.free == engine.pool.usable  # nothing leaks
    return sequences, most


@pytest.fixture(scope="module")
def network(hf_folder):
    model, decoder, _ = hf_folder("mistral", layers=2, sliding_window=WINDOW, max_position_embeddings=640)
    return model, decoder


@pytest.mark.parametrize(
    "native, block_size",
    [("1", 16), pytest.param("1", 8, marks=pytest.mark.long), pytest.param("0", 16, marks=pytest.mark.long)],
)
def test_a_long_answer_takes_no_more_blocks_than_the_window(native, block_size, network, rng, monkeypatch):
    """300 tokens through windows of 40, the tokens of transformers."""
    monkeypatch.setitem(os.environ, SWITCH, native)
    model, decoder = network
    prompts = [rng.integers(1, VOCAB, length).tolist() for length in (5, 90, 41)]
    engine = Engine(decoder, 3, 400, (), VOCAB, longest_prompt=32, block_size=block_size)
    most_of_one = blocks_at_once(400, block_size, WINDOW, engine.chunk)
    assert engine.pool.usable == 3 * most_of_one < 3 * (400 // block_size) / 3
    sequences, most = run(engine, *prompts, new_tokens=300)
    assert most <= engine.pool.usable
    assert [sequence.answer for sequence in sequences] == reference_tokens(model, prompts, 300)


def test_tokens_are_those_of_a_cache_that_keeps_everything(network, rng):
    """One text, with the least blocks that can hold it and with all of them; and beside others that take turns."""
    _, decoder = network
    prompts = [rng.integers(1, VOCAB, length).tolist() for length in (120, 60, 7)]
    everything = Engine(decoder, 3, 300, (), VOCAB, longest_prompt=64, blocks=100)
    everything.pool.window = None
    kept, most = run(everything, *prompts, new_tokens=100)
    assert most >= sum(-(-(len(prompt) + 100) // 16) for prompt in prompts) - 3
    least = blocks_at_once(300, 16, WINDOW, 64)
    ring = Engine(decoder, 3, 300, (), VOCAB, longest_prompt=64, blocks=least)
    given_back, most = run(ring, *prompts, new_tokens=100)
    assert most <= least
    assert [sequence.answer for sequence in given_back] == [sequence.answer for sequence in kept]


def test_the_next_turn_finds_the_window_of_the_last(network, rng):
    """The beginning of the chat has left the cache; its last tokens are all that the next turn needs."""
    _, decoder = network
    engine = Engine(decoder, 2, 500, (), VOCAB, longest_prompt=64)
    chat, before = rng.integers(1, VOCAB, 150).tolist(), 1
    for _turn in range(3):
        (sequence,), _ = run(engine, chat, new_tokens=50)
        alone, _ = run(Engine(decoder, 1, 500, (), VOCAB, longest_prompt=64), chat, new_tokens=50)
        assert sequence.answer == alone[0].answer
        assert sequence.reused == (before - 1) // 16 * 16
        run(engine, rng.integers(1, VOCAB, 200).tolist(), new_tokens=3)  # another chat's blocks displace old ones
        before = len(sequence.tokens)
        chat = [*sequence.tokens, *rng.integers(1, VOCAB, 20).tolist()]


def test_a_prefix_is_there_if_what_the_next_token_sees_is_there():
    pool = BlockPool(20, 4, window=6)
    tokens = list(range(30))
    hashes = [block_hash(b"", tokens[:4])]
    for end in range(8, 30, 4):
        hashes.append(block_hash(hashes[-1], tokens[end - 4 : end]))
    held = {}
    for number in (0, 3, 4, 6):  # a token at 20 sees from 15, blocks 3 and 4; one at 28 from 23, blocks 5 and 6
        held[number] = pool.take()
        pool.register(held[number], hashes[number])
    blocks, found = pool.take_prefix(tokens)
    assert blocks == [SCRATCH] * 3 + [held[3], held[4]] and found == hashes[:5]
    assert pool.take_prefix(tokens[:9]) == ([held[0]], hashes[:1])  # of the first block every token sees something
    assert BlockPool(20, 4, window=6).take_prefix(tokens) == ([], [])


@pytest.mark.parametrize("window, chunk, block_size", [(1, 1, 4), (6, 1, 4), (6, 9, 4), (7, 9, 4), (40, 64, 16)])
def test_the_most_blocks_of_a_step_are_what_it_sees(window, chunk, block_size):
    """Counted for every position that a step may begin at."""
    most = 0
    for start in range(200):
        first, last = max(start - window + 1, 0) // block_size, (start + chunk - 1) // block_size
        most = max(most, last - first + 1)
    assert blocks_at_once(10**6, block_size, window, chunk) == most
    assert blocks_at_once(5, block_size, window, chunk) == min(most, -(-5 // block_size))
    assert blocks_at_once(10**6, block_size, None, chunk) == np.ceil(10**6 / block_size)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_scheduled_a_step_finds_what_its_tokens_see(seed):
    """Texts that begin alike and continue others come and go, without a network: what a slot was last written with is
    compared with what the token that looks there expects."""
    random = np.random.default_rng(seed)
    size, window = int(random.choice([2, 4, 16])), random.choice([1, 3, 6, 20, 50, 0]) or None
    batch, longest = int(random.integers(1, 5)), int(random.integers(20, 160))
    chunk = max(int(random.choice([1, 4, 9, 32])), batch)
    least = blocks_at_once(longest, size, window, chunk)
    pool = BlockPool(int(random.choice([least, least * batch])) + 1, size, random.random() < 0.8, window)
    scheduler = Scheduler(pool, batch, chunk, bool(random.random() < 0.7))
    common = random.integers(0, 3, longest).tolist()
    written: dict[tuple[int, int], tuple] = {}
    finished = 0

    def submit(tokens: list[int]) -> None:
        sequence = Sequence(Request(tuple(tokens)), None, min(len(tokens) + 30, longest), frozenset(), list(tokens))
        scheduler.add(sequence)

    for _ in range(6):
        length = int(random.integers(1, longest))
        submit(common[:length] if random.random() < 0.5 else random.integers(0, 3, length).tolist())
    while scheduler.running or scheduler.waiting:
        chunks = scheduler.plan()
        for step in chunks:
            for position in range(step.start, step.start + step.count):
                place = (step.sequence.blocks[position // size], position % size)
                assert place[0] != SCRATCH
                written[place] = tuple(step.sequence.tokens[: position + 1])
        for step in chunks:
            tokens, blocks = step.sequence.tokens, step.sequence.blocks
            first = 0 if window is None else max(step.start - window + 1, 0)
            for seen in range(first, step.start + step.count):
                assert written[blocks[seen // size], seen % size] == tuple(tokens[: seen + 1])
            assert window is None or sum(block != SCRATCH for block in blocks) <= least
        scheduler.done(chunks)
        for sequence in [step.sequence for step in chunks if step.completes]:
            sequence.tokens.append(int(random.integers(0, 3)))
            if len(sequence.tokens) >= sequence.limit:
                scheduler.remove(sequence)
                finished += 1
                if finished <= 4 and len(sequence.tokens) + 3 < longest:
                    submit([*sequence.tokens, 1, 2])
    assert pool.free == pool.usable
