"""quantize --method w8a8s: most integers within 4 bits, stored and computed as W8A8 is."""

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
from mindcoder.checkpoint.quantized.format import STATIC, Integers
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError
from mindcoder.models.decoder import Decoder
from mindcoder.quantization.algorithms.sparse import sparse
from mindcoder.quantization.rounding import to_integers

VOCAB = 701
WEIGHTS, DESCRIPTION = "quant_model_weights.safetensors", "quant_model_description.json"


@pytest.fixture(scope="module")
def model(hf_folder, small_tokenizer):
    float_model, _, folder = hf_folder("llama", layers=1, vocab_size=VOCAB, **WIDE["llama"])
    small_tokenizer.save(folder)
    return float_model, folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    file = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    records = json.loads(SAMPLES.read_text(encoding="utf-8"))[:8]
    file.write_text("".join(json.dumps({"text": item["output"]}) + "\n" for item in records), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def folder(model, texts, tmp_path_factory):
    target = tmp_path_factory.mktemp("sparse") / "q"
    words = ("--calibration", texts, "--samples", 4, "--length", 32, "--fraction", "0.05")
    done = verb("quantize", model[1], target, "--method", "w8a8s", *words)
    assert done.returncode == 0, done.stderr
    return target, done.stdout


@pytest.mark.parametrize("fraction", [0.01, 0.1])
def test_all_but_a_share_of_the_weights_fit_into_four_bits(fraction, rng):
    weight = rng.standard_t(4, (20, 1, 1000)).astype(np.float32)
    integers = Integers(8, True, 0, STATIC, fraction)
    scale, offset = sparse(weight, integers)
    numbers = to_integers(weight, scale, offset, integers)
    assert scale.shape == (20, 1) and not offset.any() and integers.method == "W8A8S"
    large = np.abs(numbers.astype(int)) > 7
    assert fraction * 0.8 <= large.mean() <= fraction * 1.2 and large.mean(2).max() < 2 * fraction
    inside = np.abs(weight) < 127 * scale[:, :, None]
    assert np.abs(numbers * scale[:, :, None] - weight)[inside].max() <= scale.max() * 0.501
    assert (numbers == 0).mean() > 0.08


def test_nothing_is_cut_off_by_eight_bits():
    """A weight far beyond all others sets the step."""
    weight = np.full((1, 1, 1000), 0.01, np.float32)
    weight[0, 0, 0] = 100
    scale, offset = sparse(weight, Integers(8, True, 0, STATIC, 0.01))
    assert to_integers(weight, scale, offset, Integers(8)).max() == 127 and scale[0, 0] * 127 > 99


def test_the_folder_is_one_of_w8a8_with_another_type(folder):
    target, said = folder
    description, tensors = json.loads((target / DESCRIPTION).read_text()), load_file(target / WEIGHTS)
    assert description["model_quant_type"] == "W8A8S"
    module = "model.layers.0.mlp.down_proj"
    parts = ("weight", "input_scale", "input_offset", "quant_bias", "deq_scale")
    assert {description[f"{module}.{part}"] for part in parts} == {"W8A8S"}
    weights = open_weights(target)
    assert weights.quantization == "W8A8S"
    shares = [(np.abs(tensors[name].astype(int)) <= 7).mean() for name in tensors if tensors[name].dtype == np.int8]
    assert min(shares) > 0.92 and max(shares) < 0.99
    assert "W8A8S, minmax, symmetric: 7 linear layers" in said
    assert "of the integers are zero" in said
    assert "not compressible except by the compression unit of an Atlas 300I DUO" in said.splitlines()[-2]
    report = json.loads((target / "quantization_report.json").read_text())
    assert all(0.02 < layer["zeros"] < 0.3 and 0.92 < layer["small"] < 0.99 for layer in report["layers"])


def test_logits_are_those_of_an_independent_model_with_these_integers(model, folder):
    ids = np.arange(3, 43)[None]
    decoder = Decoder(open_weights(folder[0]).config.without_dropout(), empty=True)
    load_weights(decoder, folder[0])
    decoder.set_train(False)
    assert all(linear.method.is_static for linear in decoder.linears().values())
    place = Tensor(np.arange(40, dtype=np.int32)[None]), Tensor(np.zeros((1, 40), np.int32))
    found = decoder.logits(decoder(Tensor(ids.astype(np.int32)), *place, Tensor(0, ms.int32))).asnumpy()
    with torch.no_grad():
        expected = fake_quantized(model[0], load_file(folder[0] / WEIGHTS))(torch.tensor(ids)).logits[0].numpy()
    assert np.linalg.norm(found.reshape(expected.shape) - expected) < 1e-3 * np.linalg.norm(expected)


REFUSED = [
    ({}, "--method w8a8s needs texts: name a file of them with --calibration"),
    ({"activations": "dynamic"}, "--activations: found dynamic, expected static with --method w8a8s"),
    ({"algorithm": "mse"}, "--algorithm: found mse, expected minmax with --method w8a8s"),
    ({"fraction": 0.2}, "--fraction: expected a number from 0.01 to 0.1, found 0.2"),
    ({"method": "w8a8", "fraction": 0.02}, "--fraction: found --method w8a8, expected w8a8s"),
    ({"format": "compressed-tensors"}, "--format compressed-tensors: has no W8A8S; expected --format msmodelslim"),
    ({"symmetric": False}, "--method w8a8s: found --asymmetric, expected symmetric weights"),
]


@pytest.mark.parametrize("options, message", REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_options_that_do_not_fit(options, message, model, tmp_path):
    with pytest.raises(UserError) as error:
        mindcoder.quantize(model[1], tmp_path / "q", progress=False, **{"method": "w8a8s", **options})
    assert message in str(error.value), str(error.value)
    assert not (tmp_path / "q").exists()
