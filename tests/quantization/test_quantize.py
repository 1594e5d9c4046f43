"""The verb quantize: what it writes, how much memory it takes, and what it refuses."""

from __future__ import annotations

import json
import shutil
import tracemalloc

import numpy as np
import pytest
from command import mindcoder as verb
from quantized import METHODS, W4A16, W8A16, WIDE, named
from safetensors.numpy import load_file, save_file

import mindcoder
from mindcoder.checkpoint.load import read_parameters
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError
from mindcoder.quantization.report import REPORT_FILE


@pytest.fixture(scope="module")
def llama(hf_folder):
    """A random Llama and its folder."""
    model, _, folder = hf_folder("llama", layers=2, vocab_size=701, **WIDE["llama"])
    return model, folder


@pytest.mark.parametrize("options", METHODS, ids=named)
def test_the_report_has_the_error_of_every_layer(options, llama, tmp_path):
    _, folder = llama
    target = tmp_path / "quantized"
    report = mindcoder.quantize(folder, target, progress=False, **options).report
    before, after = (
        {name: plan.read() for name, plan in open_weights(path).parameters().items()} for path in (folder, target)
    )
    ours = {"self_attn.q_proj": "attention.query", "mlp.down_proj": "mlp.down"}
    for layer in report.layers:
        for theirs, name in ours.items():
            if layer.module == f"model.layers.1.{theirs}":
                weight, values = (found[f"layers.1.{name}.weight"] for found in (before, after))
                error = np.linalg.norm(values - weight) / np.linalg.norm(weight)
                np.testing.assert_allclose(layer.error, error, rtol=1e-5)
                np.testing.assert_allclose([layer.low, layer.high], [weight.min(), weight.max()], rtol=1e-6)
    assert len(report.layers) == 14 and {layer.bits for layer in report.layers} == {int(options["method"][1])}
    assert sorted(layer.module for layer in report.kept) == ["lm_head", "model.embed_tokens"]
    assert report.bytes_after < report.bytes_before
    assert json.loads((target / REPORT_FILE).read_text()) == report.as_dict()
    for name in before:  # norms, embeddings, head
        if name.removesuffix("weight")[-6:] == "_norm." or not name.startswith("layers."):
            assert (before[name] == after[name]).all(), name


def test_the_verb_prints_a_row_for_every_layer(llama, tmp_path):
    _, folder = llama
    done = verb(
        "quantize", folder, tmp_path / "q", "--method", "w8a16", "--group_size", "32", "--asymmetric",
        "--algorithm", "mse", "--fallback", r".*\.0\.self_attn\..*,.*down_proj",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines()
    assert rows[0].split() == ["module", "bits", "group", "error", "range"]
    row = next(row for row in rows if row.startswith("model.layers.1.self_attn.q_proj")).split()
    assert row[1:3] == ["8", "32"] and 0 < float(row[3].rstrip("%")) < 1
    row = next(row for row in rows if row.startswith("model.layers.0.self_attn.q_proj"))
    assert row.split() == ["model.layers.0.self_attn.q_proj", "float", "--fallback", r".*\.0\.self_attn\..*"]
    assert sum("down_proj" in row and "float" in row for row in rows) == 2
    assert "W8A16, mse, asymmetric: 8 linear layers, weight error 0." in rows[-2]
    assert rows[-1].startswith(f"msmodelslim: {tmp_path / 'q'} (")
    described = open_weights(tmp_path / "q")
    assert described.quantization == "W8A16 in groups of 32"
    shown = verb("inspect", tmp_path / "q")
    assert "quantized       W8A16 in groups of 32" in shown.stdout and "msmodelslim, llama" in shown.stdout


def test_a_quantized_folder_answers(llama, tmp_path, tokenizer_folder):
    _, folder = llama
    for number, options in enumerate((W8A16, W4A16)):
        mindcoder.quantize(folder, tmp_path / str(number), progress=False, **options)
        model = mindcoder.load(tmp_path / str(number), tokenizer=tokenizer_folder, max_length=64, device="CPU")
        answer = model.generate("def add(a, b):", max_new_tokens=4)
        assert len(answer.tokens) == 4 or answer.finish_reason == "stop"


def test_converting_gives_the_values_in_floating_point(llama, tmp_path, rng):
    import transformers

    _, folder = llama
    mindcoder.quantize(folder, tmp_path / "q", progress=False, **W4A16)
    done = verb("convert", tmp_path / "q", tmp_path / "float")
    assert done.returncode == 0 and "W4A16 in groups of 32, converted to float32" in done.stderr, done.stderr
    values = read_parameters(tmp_path / "q", open_weights(tmp_path / "q").config)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "float")
    assert "quantization_config" not in json.loads((tmp_path / "float" / "config.json").read_text())
    state = model.state_dict()
    query = state["model.layers.1.self_attn.q_proj.weight"].numpy()
    np.testing.assert_array_equal(query, values["layers.1.attention.query.weight"])
    verb("convert", tmp_path / "q", tmp_path / "half", "--dtype", "float16")
    half = load_file(tmp_path / "half" / "model.safetensors")
    np.testing.assert_array_equal(half["model.layers.1.self_attn.q_proj.weight"], query.astype(np.float16))


def test_sources_of_other_formats_give_the_same_tensors(hf_folder, tmp_path):
    _, _, folder = hf_folder("gpt_bigcode", layers=2, **WIDE["gpt_bigcode"])
    mindcoder.convert(folder, tmp_path / "ours", progress=False)
    found = []
    for number, source in enumerate((folder, tmp_path / "ours")):
        target = tmp_path / f"q{number}"
        mindcoder.quantize(source, target, method="w8a16", progress=False)
        found.append(load_file(target / "quant_model_weights.safetensors"))
    assert found[0].keys() == found[1].keys()
    for name, values in found[0].items():
        assert (values == found[1][name]).all(), name


def test_shards_have_an_index_and_the_same_tensors(llama, tmp_path):
    _, folder = llama
    for number, (method, stem) in enumerate((("w8a16", "quant_model_weights"), ("w4a16", "model"))):
        options = {"method": method, "group_size": 32, "progress": False}
        whole, parts = tmp_path / f"whole{number}", tmp_path / f"parts{number}"
        mindcoder.quantize(folder, whole, **options)
        mindcoder.quantize(folder, parts, max_shard_bytes=20_000, **options)
        assert len(list(parts.glob(f"{stem}-*-of-*.safetensors"))) > 2
        config = open_weights(whole).config
        one, other = (
            {name: plan.read() for name, plan in open_weights(path).stored_parameters(config).items()}
            for path in (whole, parts)
        )
        assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


@pytest.mark.parametrize("algorithm", ["minmax", "mse"])
def test_memory_is_that_of_a_block_not_of_a_tensor(algorithm, tmp_path):
    """The largest tensor has 64 MiB; a block of rows has 4 MiB."""
    sizes = {"hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 4, "num_hidden_layers": 1}
    config = {"model_type": "llama", "vocab_size": 64, "architectures": ["LlamaForCausalLM"], **sizes}
    shapes = {
        "model.embed_tokens": (64, 2048), "model.norm": (2048,), "lm_head": (64, 2048),
        **{f"model.layers.0.{norm}_layernorm": (2048,) for norm in ("input", "post_attention")},
        **{f"model.layers.0.self_attn.{part}_proj": (2048, 2048) for part in "qkvo"},
        **{f"model.layers.0.mlp.{part}_proj": (8192, 2048) for part in ("gate", "up")},
        "model.layers.0.mlp.down_proj": (2048, 8192),
    }  # fmt: skip
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(
        {f"{name}.weight": np.full(shape, 0.5, np.float32) for name, shape in shapes.items()},
        folder / "model.safetensors",
    )
    largest = 8192 * 2048 * 4
    tracemalloc.start()
    mindcoder.quantize(folder, tmp_path / "q", method="w4a16", algorithm=algorithm, progress=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * largest, f"{peak / 1e6:.0f} MB"
    assert peak < 0.75 * largest, f"{peak / 1e6:.0f} MB"


def test_what_does_not_fit_is_refused_and_writes_nothing(llama, tmp_path):
    _, folder = llama
    cases = {
        "matches no module; available: model.layers.N.": {"method": "w8a16", "fallback": ["c_proj"]},
        "is not a regular expression": {"method": "w8a16", "fallback": ["(*)"]},
        "no linear layer is left": {"method": "w8a16", "fallback": [r"model\.layers\..*"]},
        "inputs, which --group_size 256 does not divide": {"method": "w8a16", "group_size": 256},
        "--format msmodelslim: has no W4A16; expected": {"method": "w4a16", "group_size": 32, "format": "msmodelslim"},
        "method: expected one of w8a16, w4a16, nf4, w8a8, w8a8s, found 'w8a4'": {"method": "w8a4"},
        "algorithm: expected one of minmax, mse, gptq, awq, found 'rtn'": {"method": "w8a16", "algorithm": "rtn"},
        "format: expected one of msmodelslim, compressed-tensors": {"method": "w8a16", "format": "gguf"},
        "group_size: expected one of 32, 64, 128, 256, found 48": {"method": "w8a16", "group_size": 48},
        "group_size: expected one of 32, 64, 128, 256, found 32.0": {"method": "w8a16", "group_size": 32.0},
        "symmetric: expected True or False, found 'no'": {"method": "w8a16", "symmetric": "no"},
        "overwrite: expected True or False, found 'no'": {"method": "w8a16", "overwrite": "no"},
        "fallback: expected texts, found None": {"method": "w8a16", "fallback": None},
        "fallback: expected texts, found 3": {"method": "w8a16", "fallback": [3]},
        "smooth: expected a number, found '0.5'": {"method": "w8a8", "smooth": "0.5"},
    }
    for message, options in cases.items():
        with pytest.raises(UserError) as error:
            mindcoder.quantize(folder, tmp_path / "q", progress=False, **options)
        assert message in str(error.value) and not (tmp_path / "q").exists()
    mindcoder.quantize(folder, tmp_path / "q", progress=False, **W8A16)
    again = verb("quantize", tmp_path / "q", tmp_path / "q2", "--method", "w8a16")
    assert again.returncode == 2 and "is quantized already (W8A16)" in again.stderr and again.stderr.count("\n") == 1
    there = verb("quantize", folder, tmp_path / "q", "--method", "w8a16")
    assert there.returncode == 2 and "exists; add --overwrite to replace it" in there.stderr
    assert verb("quantize", folder, tmp_path / "q", "--method", "w8a16", "--overwrite").returncode == 0
    assert verb("quantize", folder, tmp_path / "q", "--method", "w8a8").returncode == 2


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("options", [W8A16, W4A16])
def test_weights_that_are_not_finite_are_refused(value, options, llama, tmp_path):
    source = shutil.copytree(llama[1], tmp_path / "hf")
    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=rf"model\.layers\.1\.mlp\.up_proj: found {value} at output 3, input 5"):
        mindcoder.quantize(source, tmp_path / "q", progress=False, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_lm_head_may_be_named_and_stays_as_it_is(llama, tmp_path):
    _, folder = llama
    report = mindcoder.quantize(folder, tmp_path / "q", method="w8a16", fallback="lm_head", progress=False).report
    assert len(report.layers) == 14
