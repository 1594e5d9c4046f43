"""Keys and values in int8: near the float cache, the same in every path, a quarter of the memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from families import VOCAB

from mindcoder.backend.native import native_available
from mindcoder.generate.engine import Engine
from mindcoder.generate.int8_operator_decoder import Int8OperatorDecoder
from mindcoder.generate.kv_kinds import FLOAT, INT8
from mindcoder.generate.native_decoder import NativeDecoder
from mindcoder.generate.runner import Runner, StepInput
from mindcoder.generate.scoring import Scorer
from mindcoder.generate.speculative import SpeculativeDecoder
from mindcoder.models.decoder import Decoder
from mindcoder.peft.options import PrefixOptions
from mindcoder.peft.prefix import add_prefix

LENGTHS = (1, 7, 40, 90)
# of the largest logit: two roundings to 8 bits in each layer
BOUND = 0.02

FAMILIES = {
    "gpt_bigcode": {},
    "llama": {"num_attention_heads": 4, "num_key_value_heads": 2},
    "starcoder2": {"sliding_window": 24},
}


def runner_of(decoder: Decoder, kind: str, rows: int = len(LENGTHS)) -> Runner:
    decoder.kv_cache = kind
    return Runner(decoder, 64, 16, 256, rows, 160)


def inputs_of(rng) -> list[StepInput]:
    return [
        StepInput(rng.integers(1, VOCAB, length).tolist(), 0, list(range(8 * number + 1, 8 * number + 9)), 1, length)
        for number, length in enumerate(LENGTHS)
    ]


def logits(runner: Runner, inputs: list[StepInput]) -> np.ndarray:
    """Of the prompts' last tokens and of one more each."""
    first = [runner.run([item])[0] for item in inputs]
    more = [replace(item, tokens=[5], start=item.prompt) for item in inputs]
    return np.stack([first, runner.run(more)])


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_near_those_of_floats_and_equal_in_both_paths(family, hf_folder, rng, monkeypatch):
    _, decoder, _ = hf_folder(family, layers=1, **FAMILIES[family])
    inputs = inputs_of(rng)
    exact = logits(runner_of(decoder, FLOAT), inputs)
    found = {}
    for native in (True, False):
        if native and not native_available():
            continue
        monkeypatch.setenv("MINDCODER_NATIVE", "1" if native else "0")
        runner = runner_of(decoder, INT8)
        assert type(runner.network) is (NativeDecoder if native else Int8OperatorDecoder)
        found[native] = logits(runner, inputs)
        difference = np.abs(found[native] - exact).max()
        assert 0 < difference < BOUND * np.abs(exact).max(), difference
    if len(found) == 2:  # a number that is as near to one integer as to the next may become either
        np.testing.assert_allclose(found[True], found[False], atol=BOUND / 4 * np.abs(exact).max())


def test_a_row_has_the_same_bits_beside_others(hf_folder, rng):
    _, decoder, _ = hf_folder("llama", layers=2, **FAMILIES["llama"])
    inputs = inputs_of(rng)
    together = runner_of(decoder, INT8)
    if not isinstance(together.network, NativeDecoder):
        pytest.skip("the C++ operators are not built (no compiler)")
    found = together.run(inputs)
    alone = runner_of(decoder, INT8, rows=1)
    for index, item in enumerate(inputs):
        assert (alone.run([item])[0] == found[index]).all()


def test_memory(hf_folder):
    """Heads of 16 numbers: 16 bytes and a scale of 4, in place of 64 bytes."""
    _, decoder, _ = hf_folder("llama", layers=1)
    network = runner_of(decoder, INT8).network
    size = decoder.config.head_dim
    pools = sum(item[0].nbytes for item in (network.keys, network.key_scales))
    assert pools == runner_of(decoder, FLOAT).network.keys[0].nbytes * (size + 4) // (4 * size)


@pytest.mark.parametrize("native", [True, False])
def test_engine_speculation_and_scores(native, hf_folder, rng, monkeypatch):
    """One cache after another: tokens of the engine, of speculation and of the scorer's logits are the same."""
    if native and not native_available():
        pytest.skip("the C++ operators are not built (no compiler)")
    monkeypatch.setenv("MINDCODER_NATIVE", "1" if native else "0")
    _, decoder, _ = hf_folder("gpt_bigcode", layers=1)
    decoder.kv_cache = INT8
    prompts = [rng.integers(1, VOCAB, size).tolist() for size in (21, 6)]
    tokens = [item.tokens for item in Engine(decoder, 2, 64, (), VOCAB).generate(prompts, max_new_tokens=20)]
    speculative = SpeculativeDecoder(decoder, decoder, 64, (), VOCAB)
    assert list(speculative.stream(prompts[0], 20)) == tokens[0]
    scores = Scorer(decoder, 64, 16, 32).logits(prompts[0] + tokens[0][:-1])
    assert scores[len(prompts[0]) - 1 :].argmax(1).tolist() == tokens[0]


@pytest.mark.parametrize("native", [True, False])
def test_a_learned_prefix_is_rounded_too(native, hf_folder, rng, monkeypatch):
    if native and not native_available():
        pytest.skip("the C++ operators are not built (no compiler)")
    monkeypatch.setenv("MINDCODER_NATIVE", "1" if native else "0")
    _, decoder, _ = hf_folder("llama", layers=1)
    add_prefix(decoder, PrefixOptions(tokens=16), 3)
    inputs = [replace(item, blocks=item.blocks) for item in inputs_of(rng)[:2]]
    exact = logits(runner_of(decoder, FLOAT), inputs)
    found = logits(runner_of(decoder, INT8), inputs)
    assert 0 < np.abs(found - exact).max() < BOUND * np.abs(exact).max()
