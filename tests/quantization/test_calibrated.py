"""quantize --calibration: what is recorded, what is folded, which layers fall back, and what the files say."""

from __future__ import annotations

import json
from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
import torch
from command import mindcoder as verb
from conftest import SAMPLES
from mindspore import Tensor
from quantized import WIDE
from safetensors.numpy import load_file

import mindcoder
from mindcoder.checkpoint.load import FittingWeights, load_weights, read_parameters
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError
from mindcoder.families.registry import family_of
from mindcoder.quantization.calibration.blocks import BlockRunner, calibration_network, embedded
from mindcoder.quantization.calibration.texts import CalibrationOptions, read_rows
from mindcoder.quantization.decoder_layer import DecoderLayerWeights, read_single

FAMILIES = ["gpt_bigcode", "llama", "starcoder2"]
VOCAB = 701
ROTARY = {"attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj"}
LAYERS = {  # modules of transformers by our names
    "gpt_bigcode": (
        "transformer.h",
        {"attention.query": "attn.c_attn", "attention.output": "attn.c_proj", "mlp.down": "mlp.c_proj"},
    ),
    "llama": ("model.layers", {**ROTARY, "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj"}),
    "starcoder2": ("model.layers", {**ROTARY, "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"}),
}
W4 = {"method": "w4a16", "group_size": 32, "progress": False, "samples": 8, "length": 48}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Records of code in the two forms that calibration takes."""
    records = json.loads(SAMPLES.read_text(encoding="utf-8"))[:24]
    file = tmp_path_factory.mktemp("texts") / "calibration.jsonl"
    lines = [{"text": item["output"]} if number % 2 else item for number, item in enumerate(records)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, hf_folder, small_tokenizer):
    """A random model of transformers with a tokenizer, whose norms have a few large channels."""
    made, decoder, folder = hf_folder(request.param, layers=2, vocab_size=VOCAB, **WIDE[request.param])
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.dim() == 1 and name.endswith("weight"):
                parameter[::17] *= 12
    made.save_pretrained(folder)
    small_tokenizer.save(folder)
    return request.param, made, folder, decoder


@pytest.fixture(scope="module")
def llama(hf_folder, small_tokenizer):
    _, decoder, folder = hf_folder("llama", layers=2, vocab_size=VOCAB, **WIDE["llama"])
    small_tokenizer.save(folder)
    return folder, decoder


def rows_of(texts, tokenizer, samples=3, length=40):
    return read_rows(CalibrationOptions(str(texts), samples, length), tokenizer, "plain", length, VOCAB)


def logits(decoder, folder, rows) -> np.ndarray:
    """Of the values in a folder, by a decoder of that model, which is compiled once."""
    weights = open_weights(folder)
    load_weights(decoder, FittingWeights(weights, weights.parameters(decoder.config)))
    found = []
    for row in rows:
        inputs = (Tensor(part[None]) for part in (row.ids, row.positions, row.texts))
        found.append(decoder.logits(decoder(*inputs, Tensor(0, ms.int32))).asnumpy()[: row.used])
    return np.concatenate(found)


def relative(values: np.ndarray, expected: np.ndarray) -> float:
    """Norm of the difference divided by that of what was expected."""
    return float(np.linalg.norm(values - expected) / np.linalg.norm(expected))


def test_rows_hold_texts_side_by_side(texts, small_tokenizer):
    rows = rows_of(texts, small_tokenizer, samples=4)
    assert len(rows) == 4 and all(row.used == 40 for row in rows)
    for row in rows:
        starts = np.flatnonzero(np.diff(row.texts, prepend=-1))
        assert (row.positions[starts] == 0).all() and row.texts.max() == len(starts) - 1
        inside = np.diff(row.positions)[np.diff(row.texts) == 0]
        assert (inside == 1).all()
    again = rows_of(texts, small_tokenizer, samples=4)
    assert all((a.ids == b.ids).all() for a, b in zip(rows, again))
    other = read_rows(CalibrationOptions(str(texts), 4, 40, seed=1), small_tokenizer, "plain", 40, VOCAB)
    assert any((a.ids != b.ids).any() for a, b in zip(rows, other))
    few = rows_of(texts, small_tokenizer, samples=10_000)
    assert 4 < len(few) < 10_000 and few[-1].used <= 40
    assert (few[-1].texts[few[-1].used :] > few[-1].texts[: few[-1].used].max()).all()


def test_the_recorded_inputs_are_those_of_transformers(model, texts, small_tokenizer):
    family, theirs, folder, _ = model
    rows = rows_of(texts, small_tokenizer)
    config = calibration_network(open_weights(folder).config)
    plans = open_weights(folder).parameters()
    states = embedded(config, rows, lambda name: read_single(plans[name]))
    runner = BlockRunner(config, rows)
    prefix, names = LAYERS[family]
    for number in range(2):
        seen = {name: [] for name in names}
        hooks = [
            theirs.get_submodule(f"{prefix}.{number}.{module}").register_forward_hook(
                lambda _, inputs, __, kept=seen[name]: kept.append(inputs[0][0].numpy())
            )
            for name, module in names.items()
        ]
        with torch.no_grad():
            for row in rows:  # each text alone, which is what the row's documents are
                for text in range(row.texts[row.used - 1] + 1):
                    theirs(input_ids=torch.tensor(row.ids[row.texts == text][None]).long())
        for hook in hooks:
            hook.remove()
        runner.load(DecoderLayerWeights(config, number, plans).parameters)
        found = runner.record(states)
        for name, parts in seen.items():
            inputs = np.concatenate(parts)
            statistics = found.inputs[name]
            assert statistics.tokens == len(inputs) == sum(row.used for row in rows)
            np.testing.assert_allclose(statistics.low, inputs.min(0), rtol=1e-4, atol=2e-4)
            np.testing.assert_allclose(statistics.high, inputs.max(0), rtol=1e-4, atol=2e-4)
            np.testing.assert_allclose(statistics.mean_abs, np.abs(inputs).mean(0), rtol=1e-4, atol=1e-4)
            gram = inputs.T @ inputs
            np.testing.assert_allclose(statistics.gram, gram, atol=1e-4 * np.abs(gram).max())
        assert found.inputs["attention.query"] is found.inputs["attention.key"]
        assert found.key.low.shape == (config.kv_size,) and (found.key.low < found.key.high).all()
        states = runner.run(states)


def test_the_ranges_of_keys_and_values_are_those_of_the_cache(model, texts, small_tokenizer):
    """Of the first layer, against transformers' cache, whose keys are rotated."""
    _, theirs, folder, _ = model
    rows = rows_of(texts, small_tokenizer, samples=1)
    config = calibration_network(open_weights(folder).config)
    plans = open_weights(folder).parameters()
    runner = BlockRunner(config, rows)
    runner.load(DecoderLayerWeights(config, 0, plans).parameters)
    found = runner.record(embedded(config, rows, lambda name: read_single(plans[name])))
    keys, values = [], []
    for text in range(rows[0].texts.max() + 1):
        with torch.no_grad():
            cache = theirs(input_ids=torch.tensor(rows[0].ids[rows[0].texts == text][None]).long()).past_key_values
        cache = getattr(cache, "self_attention_cache", cache)  # GPT-BigCode's
        key, value = cache.layers[0].keys, cache.layers[0].values
        if key.dim() == 3:  # multi-query attention of GPT-BigCode
            key, value = key[:, None], value[:, None]
        keys.append(key[0].transpose(0, 1).reshape(key.shape[2], -1).numpy())
        values.append(value[0].transpose(0, 1).reshape(value.shape[2], -1).numpy())
    for seen, expected in ((found.key, np.concatenate(keys)), (found.value, np.concatenate(values))):
        np.testing.assert_allclose(seen.low, expected.min(0), atol=2e-4)
        np.testing.assert_allclose(seen.high, expected.max(0), atol=2e-4)


def test_folded_scales_leave_the_logits_as_they_are(model, texts, small_tokenizer):
    """In floating point, before anything is rounded."""
    _, _, folder, _ = model
    config = calibration_network(open_weights(folder).config)
    plans = open_weights(folder).parameters()
    rng, rows = np.random.default_rng(3), rows_of(texts, small_tokenizer, samples=1)
    runner = BlockRunner(config, rows)
    states = embedded(config, rows, lambda name: read_single(plans[name]))
    layer = DecoderLayerWeights(config, 0, plans)
    runner.load(layer.parameters)
    before = runner.first_output(states[0])
    folds = family_of(config.model_type).scale_folds(config)
    assert len(folds) == (4 if config.gated_mlp else 3)
    for fold in folds:
        kept = {name: values.copy() for name, values in layer.parameters.items()}
        size = config.kv_size if fold.source == "attention.value" else config.hidden_size
        size = config.intermediate_size if fold.source == "mlp.up" else size
        layer.fold(fold, np.exp(rng.standard_normal(size)).astype(np.float32))
        assert any((kept[name] != values).any() for name, values in layer.parameters.items())
        runner.load(layer.parameters)
        after = runner.first_output(states[0])
        np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max(), err_msg=str(fold))


def test_outputs_and_logits_are_nearer_than_with_minmax(model, texts, small_tokenizer, tmp_path):
    _, _, folder, decoder = model
    rows = rows_of(texts, small_tokenizer)
    expected = logits(decoder, folder, rows)
    errors, distances = {}, {}
    for name in ("minmax", "gptq", "awq"):
        target = tmp_path / name
        report = mindcoder.quantize(folder, target, algorithm=name, calibration=texts, device="CPU", **W4).report
        assert all(layer.output_error is not None for layer in report.layers)
        errors[name] = np.mean([layer.output_error for layer in report.layers])
        distances[name] = relative(logits(decoder, target, rows), expected)
        assert json.loads((target / "quantization_report.json").read_text()) == report.as_dict()
        assert "calibrated" not in {path.name for path in target.iterdir()}
    for name in ("gptq", "awq"):
        assert errors[name] < 0.92 * errors["minmax"]
        assert distances[name] < distances["minmax"]


def test_minmax_with_texts_writes_what_it_writes_without(llama, texts, tmp_path):
    """Texts only add the errors of the outputs then."""
    folder, _ = llama
    plain = {"method": "w4a16", "group_size": 32, "progress": False}
    mindcoder.quantize(folder, tmp_path / "without", **plain)
    mindcoder.quantize(folder, tmp_path / "with", calibration=texts, device="CPU", **W4)
    found, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("with", "without"))
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert (found[name] == values).all(), name
    config, other = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("with", "without"))
    assert config == other


def test_transformers_computes_the_same_logits(llama, texts, small_tokenizer, tmp_path):
    """compressed-tensors' reader, with norms that AWQ has changed."""
    import transformers

    folder, decoder = llama
    mindcoder.quantize(folder, tmp_path / "q", algorithm="awq", calibration=texts, device="CPU", **W4)
    (row,) = rows_of(texts, small_tokenizer, samples=1)
    first = row.ids[row.texts == 0]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "q", dtype=torch.float32)
    with torch.no_grad():
        expected = theirs(input_ids=torch.tensor(first[None]).long()).logits[0].numpy()
    row = replace(row, used=len(first))
    np.testing.assert_allclose(logits(decoder, tmp_path / "q", [row]), expected, atol=1e-4)


def test_smoothing_changes_norms_and_weights_but_not_what_is_computed(llama, texts, small_tokenizer, tmp_path):
    folder, decoder = llama
    options = {**W4, "method": "w8a16", "group_size": None, "calibration": texts, "device": "CPU"}
    mindcoder.quantize(folder, tmp_path / "q", smooth=0.5, **options)
    before, after = (read_parameters(path, open_weights(folder).config) for path in (folder, tmp_path / "q"))
    norm = "layers.1.attention_norm.weight"
    scales = before[norm] / after[norm]
    assert np.ptp(scales) > 0.01
    query = "layers.1.attention.query.weight"
    change = np.linalg.norm(before[query] * scales - after[query]) / np.linalg.norm(after[query])
    assert change < 0.01
    mindcoder.quantize(folder, tmp_path / "plain", **options)
    rows = rows_of(texts, small_tokenizer)
    smoothed, plain, exact = (logits(decoder, path, rows) for path in (tmp_path / "q", tmp_path / "plain", folder))
    assert relative(smoothed, exact) < 2 * relative(plain, exact)  # spread weights round a little worse, no more


def test_layers_with_a_large_error_fall_back_with_those_beside_them(llama, texts, small_tokenizer, tmp_path):
    folder, decoder = llama
    report = mindcoder.quantize(folder, tmp_path / "all", calibration=texts, device="CPU", **W4).report
    errors = {layer.module: layer.output_error for layer in report.layers}
    limit = sorted(errors.values())[len(errors) // 2]
    done = verb(
        "quantize", folder, tmp_path / "q", "--method", "w4a16", "--group_size", 32, "--calibration", texts,
        "--samples", 8, "--length", 48, "--fallback", f"auto:{limit},.*layers.0.*down_proj", "--device_target", "CPU",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "q" / "quantization_report.json").read_text())
    kept = {layer["module"]: layer for layer in found["kept"]}
    assert kept["model.layers.0.mlp.down_proj"]["reason"] == "--fallback .*layers.0.*down_proj"
    named = [item for module, item in kept.items() if "output error" in item["reason"]]
    assert named and all(item["bits"] == 0 and item["low"] < item["high"] for item in named)
    assert all(layer["output_error"] <= limit for layer in found["layers"]) and found["layers"]
    for layer in range(2):  # engines fuse these
        for parts in (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("mlp.gate_proj", "mlp.up_proj")):
            assert len({f"model.layers.{layer}.{part}" in kept for part in parts}) == 1
    stored = load_file(tmp_path / "q" / "model.safetensors")
    original = read_parameters(folder, open_weights(folder).config)
    for item in named:
        assert f"{item['module']}.weight" in stored and f"{item['module']}.weight_packed" not in stored
        assert f"{item['module']}  " in done.stdout
    up = next((item["module"] for item in named if "mlp.up" in item["module"]), None)
    if up is not None:
        number = up.split(".")[2]
        np.testing.assert_array_equal(stored[f"{up}.weight"], original[f"layers.{number}.mlp.up.weight"])
    rows = done.stdout.splitlines()
    assert rows[0].split() == ["module", "bits", "group", "error", "output", "range"]
    config = json.loads((tmp_path / "q" / "config.json").read_text())
    assert {item["module"] for item in named} <= set(config["quantization_config"]["ignore"])
    assert np.isfinite(logits(decoder, tmp_path / "q", rows_of(texts, small_tokenizer))).all()


def test_what_does_not_fit_is_refused_and_writes_nothing(llama, texts, tmp_path, tokenizer_folder):
    folder, _ = llama
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in folder.iterdir():
        if file.suffix == ".safetensors" or file.name == "config.json":
            (bare / file.name).write_bytes(file.read_bytes())
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"text": ""}\n')
    common = {**W4, "calibration": texts, "device": "CPU"}
    cases = {
        "--algorithm gptq needs texts: name a file of them with --calibration": {**W4, "algorithm": "gptq"},
        "--smooth needs texts": {**W4, "smooth": 0.5},
        "--fallback auto needs texts": {**W4, "fallback": "auto:0.1"},
        "--samples is of calibration texts: name a file of them with --calibration": {"method": "w8a16", "samples": 3},
        "--seed is of calibration texts": {"method": "w8a16", "seed": 0},
        "--tokenizer is of calibration texts": {"method": "w8a16", "tokenizer": tokenizer_folder},
        "--fallback auto:x: expected one auto: and a share": {**common, "fallback": "auto:x"},
        "--fallback auto:0: expected one auto:": {**common, "fallback": "auto:0"},
        "--fallback auto:0.1,auto:0.2: expected one auto:": {**common, "fallback": ["auto:0.1", "auto:0.2"]},
        "--act_order belongs to --algorithm gptq, found awq": {**common, "algorithm": "awq", "act_order": True},
        "--smooth: expected a number from 0 to 1, found 2": {**common, "smooth": 2.0},
        "every linear layer's error of the output is above it": {**common, "fallback": "auto:0.00001"},
        "no template 'none'": {**common, "template": "none"},
        "samples: expected a whole number from 1, found 0": {**common, "samples": 0},
        "length: expected a whole number from 2, found 1": {**common, "length": 1},
        "nowhere.jsonl": {**common, "calibration": tmp_path / "nowhere.jsonl"},
        "holds no text to calibrate on": {**common, "calibration": empty},
    }
    for message, options in cases.items():
        with pytest.raises(UserError) as error:
            mindcoder.quantize(folder, tmp_path / "q", **options)
        assert message in str(error.value) and not (tmp_path / "q").exists()
    with pytest.raises(
        UserError, match="has no tokenizer with it to read the calibration texts; name one with --tokenizer"
    ):
        mindcoder.quantize(bare, tmp_path / "q", **common)
    mindcoder.quantize(bare, tmp_path / "q", tokenizer=tokenizer_folder, **common)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_weights_that_are_not_finite_are_refused(llama, texts, tmp_path):
    from safetensors.numpy import save_file

    folder, _ = llama
    source = tmp_path / "hf"
    source.mkdir()
    for file in folder.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = np.nan
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"layers\.1\.mlp\.up\.weight: found nan at \[3, 5\], expected finite weights"):
        mindcoder.quantize(source, tmp_path / "q", calibration=texts, device="CPU", **W4)
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]
