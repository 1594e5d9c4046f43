"""A KV cache in int8 by scales of channels: both paths compute what an independent model with rounded keys does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from families import VOCAB
from transformers import DynamicCache

from mindcoder.backend.native import native_available
from mindcoder.checkpoint.kv_scales import ChannelScales, KvScales
from mindcoder.generate.engine import Engine
from mindcoder.generate.kv_kinds import FLOAT, INT8
from mindcoder.generate.native_decoder import NativeDecoder
from mindcoder.generate.runner import Runner, StepInput
from mindcoder.generate.scoring import Scorer
from mindcoder.generate.speculative import SpeculativeDecoder
from mindcoder.generate.static_int8_operator_decoder import StaticInt8OperatorDecoder
from mindcoder.models.decoder import Decoder
from mindcoder.peft.options import PrefixOptions
from mindcoder.peft.prefix import add_prefix

LENGTHS = (1, 7, 40, 90)
# of the largest logit: a number that is as near to one integer as to the next may become either
BOUND = 0.005

FAMILIES = {
    "gpt_bigcode": {},
    "llama": {"num_attention_heads": 4, "num_key_value_heads": 2},
    "starcoder2": {"sliding_window": 24},
}


@pytest.fixture(params=[True, False], ids=["native", "operators"])
def native(request, monkeypatch) -> bool:
    if request.param and not native_available():
        pytest.skip("the C++ operators are not built (no compiler)")
    monkeypatch.setenv("MINDCODER_NATIVE", "1" if request.param else "0")
    return request.param


def runner_of(decoder: Decoder, rows: int = len(LENGTHS)) -> Runner:
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


def measured(values: np.ndarray) -> ChannelScales:
    """The range of each channel, with an offset."""
    low, high = values.min(0), values.max(0)
    scale = (high - low + np.float32(1e-6)) / np.float32(255)
    return ChannelScales(scale, np.rint(-128 - low / scale).astype(np.float32))


def with_scales(decoder: Decoder, inputs: list[StepInput], monkeypatch) -> np.ndarray:
    """Give the decoder scales of what it caches for these prompts; returns its logits with a float cache."""
    monkeypatch.setenv("MINDCODER_NATIVE", "0")
    decoder.kv_cache, decoder.kv_scales = FLOAT, None
    runner = runner_of(decoder)
    found = logits(runner, inputs)
    network, size = runner.network, decoder.config.kv_size
    pools = [[pool.asnumpy().reshape(-1, size) for pool in kind] for kind in (network.keys, network.values)]
    decoder.kv_scales = [KvScales(measured(key), measured(value)) for key, value in zip(*pools)]
    decoder.kv_cache = INT8
    return found


class RoundedCache(DynamicCache):
    """transformers' cache, which holds what a decoder's integers stand for."""

    def __init__(self, scales: list[KvScales]) -> None:
        super().__init__()
        self.scales = scales

    def update(self, key_states, value_states, layer_idx, cache_kwargs=None):
        own = self.scales[layer_idx]
        key, value = rounded(key_states, own.key), rounded(value_states, own.value)
        return super().update(key, value, layer_idx, cache_kwargs)


def rounded(states: torch.Tensor, own: ChannelScales) -> torch.Tensor:
    """``[B, K, S, D]`` by the formulas of msModelSlim's format."""
    shape = (states.shape[1], 1, states.shape[-1])
    scale, offset = (torch.tensor(item).reshape(shape) for item in (own.scale, own.offset))
    return (torch.clamp(torch.round(states / scale + offset), -128, 127) - offset) * scale


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_a_model_with_rounded_keys_and_values(family, hf_folder, rng, monkeypatch):
    """One after another in both paths: prompts, and single tokens after them."""
    float_model, decoder, _ = hf_folder(family, layers=2, **FAMILIES[family])
    inputs = inputs_of(rng)
    exact = with_scales(decoder, inputs, monkeypatch)
    expected = np.empty_like(exact)
    with torch.no_grad():
        for index, item in enumerate(inputs):
            cache = RoundedCache(decoder.kv_scales)
            for step, tokens in enumerate((item.tokens, [5])):
                found = float_model(torch.tensor([tokens]), past_key_values=cache, use_cache=True).logits
                expected[step, index] = found[0, -1, : exact.shape[2]].numpy()
    largest = np.abs(exact).max()
    assert np.abs(expected - exact).max() > 2 * BOUND * largest / 5
    for own in (True, False):
        if own and not native_available():
            continue
        monkeypatch.setenv("MINDCODER_NATIVE", "1" if own else "0")
        runner = runner_of(decoder)
        assert type(runner.network) is (NativeDecoder if own else StaticInt8OperatorDecoder)
        found = logits(runner, inputs)
        np.testing.assert_allclose(found, expected, atol=BOUND * largest)


def test_a_row_has_the_same_bits_beside_others(hf_folder, rng, monkeypatch):
    _, decoder, _ = hf_folder("llama", layers=2, **FAMILIES["llama"])
    inputs = inputs_of(rng)
    with_scales(decoder, inputs, monkeypatch)
    monkeypatch.setenv("MINDCODER_NATIVE", "1")
    together = runner_of(decoder)
    if not isinstance(together.network, NativeDecoder):
        pytest.skip("the C++ operators are not built (no compiler)")
    found = together.run(inputs)
    alone = runner_of(decoder, rows=1)
    for index, item in enumerate(inputs):
        assert (alone.run([item])[0] == found[index]).all()


def test_the_cache_is_a_quarter_of_floats(hf_folder, rng, monkeypatch):
    """Without the scales of tokens."""
    _, decoder, _ = hf_folder("llama", layers=1)
    with_scales(decoder, inputs_of(rng), monkeypatch)
    integers = runner_of(decoder).network
    decoder.kv_cache = FLOAT
    assert 4 * integers.keys[0].nbytes == runner_of(decoder).network.keys[0].nbytes


def test_engine_speculation_and_scores(native, hf_folder, rng, monkeypatch):
    """One cache after another: tokens of the engine, of speculation and of the scorer's logits are the same."""
    _, decoder, _ = hf_folder("gpt_bigcode", layers=2)
    with_scales(decoder, inputs_of(rng), monkeypatch)
    monkeypatch.setenv("MINDCODER_NATIVE", "1" if native else "0")
    prompts = [rng.integers(1, VOCAB, size).tolist() for size in (21, 6)]
    tokens = [item.tokens for item in Engine(decoder, 2, 64, (), VOCAB).generate(prompts, max_new_tokens=20)]
    speculative = SpeculativeDecoder(decoder, decoder, 64, (), VOCAB)
    assert list(speculative.stream(prompts[0], 20)) == tokens[0]
    scores = Scorer(decoder, 64, 16, 32).logits(prompts[0] + tokens[0][:-1])
    assert scores[len(prompts[0]) - 1 :].argmax(1).tolist() == tokens[0]


def test_a_learned_prefix_is_rounded_by_the_same_scales(native, hf_folder, rng, monkeypatch):
    _, decoder, _ = hf_folder("llama", layers=2)
    add_prefix(decoder, PrefixOptions(tokens=16), 3)
    inputs = inputs_of(rng)[:2]
    exact = with_scales(decoder, inputs, monkeypatch)
    monkeypatch.setenv("MINDCODER_NATIVE", "1" if native else "0")
    found = logits(runner_of(decoder), inputs)
    assert 0 < np.abs(found - exact).max() < 0.02 * np.abs(exact).max()


def test_numbers_beyond_the_measured_range_are_cut_off():
    own = ChannelScales(np.array([0.5, 0.5], np.float32), np.array([0, 20], np.float32))
    found = own.rounded(np.array([[100.0, 100.0], [-100.0, -100.0], [1.2, 1.2]]))
    assert found.dtype == np.int8 and found.tolist() == [[127, 127], [-128, -128], [2, 22]]
