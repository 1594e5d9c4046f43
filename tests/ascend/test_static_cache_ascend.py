"""A KV cache in int8 by scales of channels on MindSpore's Ascend backend: the logits that CPU has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ascend_models import MOVEMENTS
from families import random_model

from mindcoder.checkpoint.kv_scales import ChannelScales, KvScales
from mindcoder.checkpoint.load import load_weights
from mindcoder.checkpoint.weights import open_weights
from mindcoder.generate.runner import Runner, StepInput
from mindcoder.models.decoder import Decoder
from softcann.environment import run_on_emulator

pytestmark = pytest.mark.long

PROGRAM = """
import sys
sys.path[:0] = sys.argv[3:]
import numpy as np
from mindcoder.backend.device import setup_device
setup_device("Ascend")
from test_static_cache_ascend import logits

np.savez(sys.argv[2], **{dtype: logits(sys.argv[1], dtype) for dtype in ("float32", "float16")})
"""


def logits(folder: str, dtype: str) -> np.ndarray:
    """Of a prompt's last token, and of one more."""
    from dataclasses import replace

    weights = open_weights(folder)
    config = replace(weights.config.without_dropout(), param_dtype=dtype, compute_dtype=dtype)
    decoder = Decoder(config, empty=True)
    load_weights(decoder, folder)
    scale = np.linspace(0.02, 0.04, config.kv_size).astype(np.float32)
    own = ChannelScales(scale, np.arange(config.kv_size, dtype=np.float32) % 5 - 2)
    decoder.kv_cache, decoder.kv_scales = "int8", [KvScales(own, own)] * config.num_layers
    runner = Runner(decoder, 8, 16, 64, 1, 32)
    prompt = StepInput(list(range(3, 24)), 0, [1, 2, 3, 4], 1, 21)
    found = [runner.run([prompt])[0], runner.run([replace(prompt, tokens=[5], start=21)])[0]]
    return np.stack(found).astype(np.float32)


@pytest.mark.parametrize("family", ["llama", "gpt_bigcode"])
def test_both_steps_give_the_logits_of_cpu(family, tmp_path, monkeypatch):
    random_model(family, layers=2).save_pretrained(tmp_path / "model")
    (tmp_path / "program.py").write_text(PROGRAM)
    log = tmp_path / "log.jsonl"
    files = [str(tmp_path / name) for name in ("program.py", "model", "found.npz")]
    files += [str(folder) for folder in (Path(__file__).parent, Path(__file__).parents[1])]
    (finished,) = run_on_emulator(files, log=log)
    assert finished.returncode == 0, finished.output[-4000:]
    found = np.load(tmp_path / "found.npz")
    monkeypatch.setenv("MINDCODER_NATIVE", "0")
    wanted = logits(str(tmp_path / "model"), "float32")
    largest = np.abs(wanted).max()
    np.testing.assert_allclose(found["float32"], wanted, atol=0.005 * largest)
    np.testing.assert_allclose(found["float16"], wanted, atol=0.03 * largest)
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert any(event["event"] == "aclnn" and event["name"] == "aclnnAscendQuant" for event in events)
    assert {event["name"] for event in events if event["event"] == "aclop"} <= MOVEMENTS  # copies of the scales
