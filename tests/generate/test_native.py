"""The C++ operators against MindSpore's own, and against themselves beside other tokens."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from families import VOCAB

from mindcoder.backend.native import SWITCH, native_available
from mindcoder.generate.native_decoder import NativeDecoder
from mindcoder.generate.operator_decoder import OperatorDecoder
from mindcoder.generate.paged_decoder import paged_decoder
from mindcoder.generate.runner import Runner, StepInput
from mindcoder.models.decoder import Decoder

CASES = {
    "multi-query": ("gpt_bigcode", {"multi_query": True}),
    "multi-head": ("gpt_bigcode", {"multi_query": False}),
    "window": ("starcoder2", {"sliding_window": 16}),
    "grouped": ("llama", {}),
    "wide head": ("llama", {"head_dim": 40, "attention_bias": True, "mlp_bias": True}),
}
HALF = {"partial_rotary_factor": 0.5, "pad_token_id": None}
# What one family has and the others do not.
FURTHER = {
    "norms of heads": ("qwen3", {"head_dim": 24}),
    "multipliers": ("granite", {"embedding_multiplier": 6.0, "residual_multiplier": 0.22, "logits_scaling": 8.0}),
    "layers without rotary": ("smollm3", {"no_rope_layer_interval": 2, "pad_token_id": None}),
    "heads that rotate in part": ("phi3", {"num_attention_heads": 3, "num_key_value_heads": 3, **HALF}),
}
LENGTHS = (1, 7, 40, 90)


def needs_library():
    if not native_available():
        pytest.skip("the C++ operators are not built (no compiler)")


def runner_of(decoder, native: bool, rows: int = len(LENGTHS)) -> Runner:
    os.environ[SWITCH] = "1" if native else "0"
    try:
        runner = Runner(decoder, 64, 16, 256, rows, 160)
    finally:
        del os.environ[SWITCH]
    assert isinstance(runner.network, NativeDecoder if native else OperatorDecoder)
    return runner


def inputs_of(rng, lengths=LENGTHS):
    blocks = iter(rng.permutation(np.arange(1, 64)).tolist())  # anywhere in the cache
    own = [[next(blocks) for _ in range(8)] for _ in lengths]
    return [
        StepInput(rng.integers(1, VOCAB, length).tolist(), 0, table, 1, length) for length, table in zip(lengths, own)
    ]


def continued(item: StepInput, token: int) -> StepInput:
    return replace(item, tokens=[token], start=item.start + len(item.tokens))


@pytest.mark.parametrize("case", [*CASES, *(pytest.param(name, marks=pytest.mark.long) for name in FURTHER)])
def test_logits_equal_those_of_mindspores_operators(case, hf_folder, rng):
    needs_library()
    family, overrides = {**CASES, **FURTHER}[case]
    _, decoder, _ = hf_folder(family, layers=2, **overrides)
    inputs = inputs_of(rng)
    native, composed = runner_of(decoder, True), runner_of(decoder, False)
    found = native.run(inputs)
    expected = np.concatenate([composed.run([item]) for item in inputs])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    next_inputs = [continued(item, 5) for item in inputs]
    np.testing.assert_allclose(native.run(next_inputs), composed.run(next_inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_a_sequences_logits_have_the_same_bits_whatever_is_beside_it(case, hf_folder, rng):
    needs_library()
    family, overrides = CASES[case]
    _, decoder, _ = hf_folder(family, layers=2, **overrides)
    inputs = inputs_of(rng)
    together, alone = runner_of(decoder, True), runner_of(decoder, True, rows=1)
    first, second = together.run(inputs), together.run([continued(item, 5) for item in inputs])
    for index, item in enumerate(inputs):
        middle = len(item.tokens) // 2
        if middle:  # in two chunks
            alone.run([replace(item, tokens=item.tokens[:middle], num_logits=0)])
            item = replace(item, tokens=item.tokens[middle:], start=middle)
        assert (alone.run([item])[0] == first[index]).all()
        assert (alone.run([continued(item, 5)])[0] == second[index]).all()


def test_half_precision_weights_give_nearly_the_same_logits(hf_folder, rng):
    needs_library()
    _, decoder, _ = hf_folder("gpt_bigcode", layers=1)
    half = Decoder(replace(decoder.config, param_dtype="float16"), empty=True)
    for target, source in zip(half.get_parameters(), decoder.get_parameters()):
        target.set_data(source.astype(target.dtype))
    inputs = inputs_of(rng)
    expected = runner_of(decoder, True).run(inputs)
    np.testing.assert_allclose(runner_of(half, True).run(inputs), expected, atol=0.02)


def logits_of_a_process(folder, tmp_path, tag: str, **environment: str) -> np.ndarray:
    """A prompt's and a next token's logits, as another process with these variables computes them."""
    script, file = tmp_path / "logits.py", tmp_path / f"{tag}.npy"
    script.write_text(
        "import sys, numpy as np\n"
        "from mindcoder.backend.device import setup_device\n"
        "setup_device('CPU')\n"
        "from mindcoder.checkpoint.huggingface import HuggingFaceFolder\n"
        "from mindcoder.checkpoint.load import load_weights\n"
        "from mindcoder.generate.runner import StepInput, Runner\n"
        "from mindcoder.models.decoder import Decoder\n"
        "decoder = Decoder(HuggingFaceFolder(sys.argv[1]).transformer_config, empty=True)\n"
        "load_weights(decoder, sys.argv[1])\n"
        "runner = Runner(decoder, 16, 16, 128, 1, 128)\n"
        "blocks = list(range(1, 9))\n"
        "inputs = [StepInput(list(range(1, 60)), 0, blocks, 1, 59), StepInput([7], 59, blocks, 1, 59)]\n"
        "np.save(sys.argv[2], np.concatenate([runner.run([item]) for item in inputs]))\n"
    )
    subprocess.run([sys.executable, script, folder, file], check=True, env={**os.environ, **environment})
    return np.load(file)


@pytest.mark.parametrize("threads", ["2", "3"])
def test_the_number_of_threads_changes_no_bit(threads, hf_folder, tmp_path):
    needs_library()
    _, _, folder = hf_folder("llama", layers=1)
    one, several = (logits_of_a_process(folder, tmp_path, count, MINDCODER_THREADS=count) for count in ("1", threads))
    assert (one == several).all()


def test_prompts_by_the_matrix_unit_give_the_logits_of_vectors(hf_folder, tmp_path):
    needs_library()
    if "amx_bf16" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no matrix unit (AMX): prompts went by vectors in every other test")
    _, _, folder = hf_folder("gpt_bigcode")
    tiles = logits_of_a_process(folder, tmp_path, "tiles", MINDCODER_TILES="1")
    vectors = logits_of_a_process(folder, tmp_path, "vectors", MINDCODER_TILES="0")
    assert (tiles != vectors).any()
    np.testing.assert_allclose(tiles, vectors, rtol=1e-5, atol=1e-5)


def test_without_the_library_mindspores_operators_compute(hf_folder, monkeypatch, tmp_path):
    _, decoder, _ = hf_folder("llama")
    monkeypatch.setattr("mindcoder.backend.native.LIBRARY", tmp_path / "none.so")
    assert isinstance(paged_decoder(decoder, 8, 16), OperatorDecoder)
