"""Token tables padded to a multiple behave as if the padding were not there."""

from __future__ import annotations

from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
from families import VOCAB, one_batch
from mindspore import Tensor

from mindcoder.checkpoint.convert import ConvertRequest, convert
from mindcoder.checkpoint.load import load_weights
from mindcoder.checkpoint.store import save_checkpoint
from mindcoder.checkpoint.weights import open_weights
from mindcoder.families.from_section import config_from_section
from mindcoder.families.llama.section import LlamaSection
from mindcoder.families.transformer_config import TOKEN_TABLES
from mindcoder.generate.engine import Engine
from mindcoder.models.decoder import Decoder
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.step import TrainStep

PADDED = 160


def step_of(decoder):
    return TrainStep(decoder, AdamW(ms.ParameterTuple(decoder.trainable_params()), AdamWOptions(weight_decay=0.1)), 1.0)


def scalars():
    values = (Tensor(0, ms.int32), Tensor(1e-2, ms.float32), Tensor(1.0, ms.float32), Tensor(1.0, ms.float32))
    return (*values, Tensor(True))


@pytest.mark.parametrize("family", ["gpt_bigcode", "llama"])
def test_training_generation_and_export_ignore_the_padding(family, hf_folder, rng, tmp_path):
    _, plain, folder = hf_folder(family, layers=1)
    padded = Decoder(replace(plain.config, padded_vocab_size=PADDED), empty=True)
    load_weights(padded, folder)
    steps = [step_of(decoder) for decoder in (plain, padded)]
    _, _, inputs = one_batch(rng)
    for _ in range(3):
        first, second = (step(*inputs, *scalars()) for step in steps)
        for ours, theirs in zip(first, second):
            assert float(ours.asnumpy()) == pytest.approx(float(theirs.asnumpy()), abs=1e-6)
    trained = {item.name: item.asnumpy() for item in padded.get_parameters()}
    for name in TOKEN_TABLES:
        if name in trained:
            assert trained[name].shape[0] == PADDED and not trained[name][VOCAB:].any()

    prompts = [rng.integers(1, VOCAB, 9).tolist()]
    answers = [
        Engine(decoder, 1, 64, (), VOCAB).generate(prompts, max_new_tokens=30)[0].tokens for decoder in (plain, padded)
    ]
    assert answers[0] == answers[1]

    from dataclasses import asdict

    state = {"step": 3, "config": asdict(padded.config)}
    moments = {name: item.asnumpy() for name, item in steps[1].update.optimizer.state().items()}
    save_checkpoint(tmp_path / "run" / "checkpoint", state, trained, moments, 1)
    convert(ConvertRequest(str(tmp_path / "run"), tmp_path / "out", show_progress=False))
    exported = open_weights(tmp_path / "out")
    assert exported.config.vocab_size == VOCAB
    assert exported.parameters()["token_embedding.weight"].shape == (VOCAB, 48)
    again = Decoder(padded.config, empty=True)
    load_weights(again, tmp_path / "out")
    for item in again.get_parameters():
        np.testing.assert_array_equal(item.asnumpy(), trained[item.name])


def test_the_yaml_key_pads():
    section = LlamaSection(
        type="LlamaConfig", vocab_size=32001, make_vocab_size_divisible_by=64, hidden_size=64, num_heads=4, num_layers=1
    )
    config = config_from_section(section)
    assert (config.vocab_size, config.token_rows) == (32001, 32064)
    assert not Decoder(config).token_embedding.weight.asnumpy()[32001:].any()
