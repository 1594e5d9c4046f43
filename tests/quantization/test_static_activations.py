"""quantize --method w8a8 --activations static: the range of activations, what is written, and how near it is."""

from __future__ import annotations

import json

import mindspore as ms
import numpy as np
import pytest
import torch
from command import mindcoder as verb
from conftest import SAMPLES
from fake_quantized import fake_quantized
from mindspore import Tensor
from quantized import WIDE
from safetensors.numpy import load_file

import mindcoder
from mindcoder.checkpoint.load import load_weights
from mindcoder.checkpoint.quantized.format import DYNAMIC, STATIC, Integers, StaticInput
from mindcoder.checkpoint.weights import open_weights
from mindcoder.models.decoder import Decoder
from mindcoder.quantization.activations import output_error, rounded, static_input
from mindcoder.quantization.calibration.statistics import InputRecord
from mindcoder.tokenizer import load_tokenizer

VOCAB = 701
OPTIONS = {"method": "w8a8", "activations": "static", "progress": False, "samples": 8, "length": 48}
FILES = {"msmodelslim": "quant_model_weights.safetensors", "compressed-tensors": "model.safetensors"}


@pytest.fixture(scope="module", params=["llama", "gpt_bigcode"])
def model(request, hf_folder, small_tokenizer):
    """A model without biases and one with them, which have a tokenizer."""
    float_model, decoder, folder = hf_folder(request.param, layers=2, vocab_size=VOCAB, **WIDE[request.param])
    small_tokenizer.save(folder)
    return request.param, decoder, folder, float_model


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Answers of the samples."""
    file = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    records = json.loads(SAMPLES.read_text(encoding="utf-8"))[:24]
    file.write_text("".join(json.dumps({"text": item["output"]}) + "\n" for item in records), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def quantized(model, texts, tmp_path_factory):
    """Its folders in both formats, and their reports."""
    made, place = {}, tmp_path_factory.mktemp("static")
    for name in ("msmodelslim", "compressed-tensors"):
        done = mindcoder.quantize(model[2], place / name, calibration=texts, format=name, **OPTIONS)
        made[name] = (place / name, done.report)
    return made


def statistics(values: np.ndarray):
    record = InputRecord(values.shape[1], 1)
    record.add(values)
    return record.statistics()


@pytest.mark.parametrize("has_offset, shift", [(True, 0.0), (True, 2.0), (True, 90.0), (False, 2.0)])
def test_the_range_is_that_of_the_integers(has_offset, shift, rng):
    values = rng.standard_normal((50, 8)).astype(np.float32) + np.float32(shift)
    static = static_input(statistics(values), np.ones((3, 8), np.int8), None, has_offset)
    assert static.offset == round(static.offset) and -128 <= static.offset <= 127 and static.sums.tolist() == [8] * 3
    assert has_offset or static.offset == 0
    found = rounded(values, Integers(8, activations=STATIC), static)
    assert np.abs(found - values).max() <= static.scale * (0.51 if has_offset else 0.501) * (1 + 1e-4)
    steps = found / static.scale + static.offset
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    assert steps.max() < 127.01 and steps.min() > -128.01


def test_errors_of_outputs_count_both_roundings(rng):
    x, weight = rng.standard_normal((50, 8)).astype(np.float32), rng.standard_normal((3, 8)).astype(np.float32)
    dynamic = Integers(8, activations=DYNAMIC)
    only_inputs = output_error(weight, weight, x, dynamic, None)
    assert 0.001 < only_inputs < 0.02 and output_error(weight, weight + np.float32(0.1), x, dynamic, None) > 0.02
    exact = StaticInput(1.0, 0.0, np.zeros(3, np.int32))
    whole = np.rint(x * 9)
    assert output_error(weight, weight, whole, Integers(8, activations=STATIC), exact) == 0


def fake_logits(float_model, folder, name: str, ids) -> np.ndarray:
    """Of transformers' model with the values of a folder's integers, float32 ``[tokens, vocab]``."""
    with torch.no_grad():
        return fake_quantized(float_model, load_file(folder / FILES[name]))(torch.tensor([ids])).logits[0].numpy()


def test_both_formats_hold_the_range_and_answer_alike(model, quantized):
    """The networks read back keep static rounding; their logits are those of an independent fake-quantized model."""
    family, plain, source, float_model = model
    text = json.loads(SAMPLES.read_text(encoding="utf-8"))[0]["output"]
    ids = load_tokenizer(source).encode(text)[:40]
    assert len(ids) == 40
    inputs = (
        Tensor(np.array([ids], np.int32)),
        Tensor(np.arange(40, dtype=np.int32)[None]),
        Tensor(np.zeros((1, 40), np.int32)),
    )
    plain.set_train(False)
    exact = plain.logits(plain(*inputs, Tensor(0, ms.int32))).asnumpy()
    for name, (folder, report) in quantized.items():
        weights = open_weights(folder)
        assert weights.quantization == report.method == "W8A8" and report.format == name
        decoder = Decoder(weights.config.without_dropout(), empty=True)
        load_weights(decoder, folder)
        offsets = [linear.input_rounding.asnumpy()[1] for linear in decoder.linears().values()]
        assert all(linear.method.is_static for linear in decoder.linears().values())
        assert any(offsets) == (name == "msmodelslim")
        decoder.set_train(False)
        found = decoder.logits(decoder(*inputs, Tensor(0, ms.int32))).asnumpy()
        assert np.linalg.norm(found - exact) > 0
        expected = fake_logits(float_model, folder, name, ids)
        change = np.linalg.norm(found.reshape(expected.shape) - expected) / np.linalg.norm(expected)
        assert change < 1e-3, (family, name, change)
        if plain.layers[0].mlp.down.bias is not None:
            for ours, theirs in zip(decoder.linears().values(), plain.linears().values()):
                unit = float((ours.weight_scale.asnumpy() * ours.input_rounding.asnumpy()[0]).max())
                np.testing.assert_allclose(ours.bias.asnumpy(), theirs.bias.asnumpy(), atol=unit)
    tensors = load_file(quantized["msmodelslim"][0] / FILES["msmodelslim"])
    description = json.loads((quantized["msmodelslim"][0] / "quant_model_description.json").read_text())
    static = {key for key, kind in description.items() if kind == "W8A8" and key != "model_quant_type"}
    assert {key.rpartition(".")[2] for key in static} == {
        "weight", "weight_scale", "weight_offset", "input_scale", "input_offset", "deq_scale", "quant_bias"
    }  # fmt: skip
    assert static <= tensors.keys()


def test_static_activations_need_texts(model, tmp_path):
    done = verb("quantize", model[2], tmp_path / "q", "--method", "w8a8", "--activations", "static")
    assert done.returncode == 2 and done.stderr.strip().count("\n") == 0
    assert "--activations static needs texts: name a file of them with --calibration" in done.stderr


def test_the_verb_with_texts_and_smoothing(model, texts, tmp_path):
    words = ("--activations", "static", "--calibration", texts, "--samples", "4", "--length", "32", "--smooth", "0.5")
    done = verb("quantize", model[2], tmp_path / "q", "--method", "w8a8", *words)
    assert done.returncode == 0, done.stderr
    assert "W8A8, minmax, symmetric" in done.stdout
    assert load_tokenizer(tmp_path / "q") is not None
