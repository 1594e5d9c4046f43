"""Folders whose activations are integers, too: msModelSlim's by their formulas, compressed-tensors' by its package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command import mindcoder as verb
from compressed_tensors.compressors.naive_quantized import IntQuantizationCompressor
from compressed_tensors.quantization import QuantizationConfig
from fake_quantized import fake_quantized
from quantized import WIDE
from safetensors.numpy import load_file, save_file

import mindcoder
from mindcoder.checkpoint.load import load_weights, read_parameters
from mindcoder.checkpoint.quantized.format import STATIC, Integers, LayerShape, StaticInput
from mindcoder.checkpoint.quantized.msmodelslim import MsModelSlim
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError
from mindcoder.models.decoder import Decoder

DESCRIPTION, WEIGHTS = "quant_model_description.json", "quant_model_weights.safetensors"
MODULES = {"llama": "model.layers.0.mlp.down_proj", "gpt_bigcode": "transformer.h.0.mlp.c_proj"}


@pytest.fixture(scope="module")
def folders(hf_folder, tmp_path_factory) -> dict[str, Path]:
    """msModelSlim's W8A8_DYNAMIC of each family, and compressed-tensors' of Llama."""
    made = {}
    for family in MODULES:
        _, _, source = hf_folder(family, layers=1, **WIDE[family])
        made[family] = tmp_path_factory.mktemp(family) / "q"
        mindcoder.quantize(source, made[family], method="w8a8", progress=False)
    _, _, source = hf_folder("llama", layers=1, **WIDE["llama"])
    made["tensors"] = tmp_path_factory.mktemp("tensors") / "q"
    mindcoder.quantize(
        source, made["tensors"], method="w8a8", activations="dynamic", format="compressed-tensors", progress=False
    )
    return made


def test_msmodelslims_dynamic_form(folders):
    description = json.loads((folders["llama"] / DESCRIPTION).read_text())
    tensors, module = load_file(folders["llama"] / WEIGHTS), MODULES["llama"]
    assert description["model_quant_type"] == "W8A8_DYNAMIC" and description["group_size"] == 0
    assert {description[f"{module}.{part}"] for part in ("weight", "weight_scale", "weight_offset")} == {"W8A8_DYNAMIC"}
    assert tensors[f"{module}.weight"].dtype == np.int8 and not tensors[f"{module}.weight_offset"].any()
    assert tensors[f"{module}.weight_scale"].shape == (64, 1)
    weights = open_weights(folders["llama"])
    assert weights.quantization == "W8A8_DYNAMIC"
    found = read_parameters(folders["llama"], weights.config)["layers.0.mlp.down.weight"]
    expected = tensors[f"{module}.weight"].astype(np.float32) * tensors[f"{module}.weight_scale"]
    np.testing.assert_array_equal(found, expected)


def static_folder(folder: Path, target: Path, half: bool = False) -> dict[str, dict[str, np.ndarray]]:
    """The same weights with static activations, written by the formulas of the format; gives each module's numbers."""
    shutil.copytree(folder, target)
    tensors, rng = load_file(target / WEIGHTS), np.random.default_rng(4)
    description = json.loads((target / DESCRIPTION).read_text())
    modules, made = [name.removesuffix(".weight_scale") for name in tensors if name.endswith(".weight_scale")], {}
    for module in modules:
        weight, weight_scale = tensors[f"{module}.weight"], tensors.pop(f"{module}.weight_scale")
        tensors.pop(f"{module}.weight_offset")
        scale, offset = np.float32(rng.uniform(0.01, 0.05)), np.float32(rng.integers(-20, 20))
        both = weight_scale[:, 0] * scale
        bias = tensors.get(f"{module}.bias", np.zeros(len(weight), np.float32))
        units = np.rint(bias.astype(np.float64) / both - offset * weight.astype(np.int64).sum(1)).astype(np.int32)
        made[module] = {"weight": weight, "scale": scale, "offset": offset, "both": both, "units": units, "bias": bias}
        own = {
            "input_scale": np.array([scale]), "input_offset": np.array([offset]),
            "deq_scale": both.view(np.int32).astype(np.int64) if half else both, "quant_bias": units,
        }  # fmt: skip
        tensors |= {f"{module}.{part}": values for part, values in own.items()}
        for part in ("weight_scale", "weight_offset"):
            del description[f"{module}.{part}"]
        description |= {f"{module}.{part}": "W8A8" for part in ("weight", *own)}
    description["model_quant_type"] = "W8A8"
    (target / DESCRIPTION).write_text(json.dumps(description))
    save_file(tensors, target / WEIGHTS)
    return made


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("family", MODULES)
def test_msmodelslims_static_form_is_computed_by_its_formula(family, half, folders, tmp_path, rng):
    made = static_folder(folders[family], tmp_path / "q", half)
    weights = open_weights(tmp_path / "q")
    assert weights.quantization == "W8A8"
    decoder = Decoder(weights.config.without_dropout(), empty=True)
    load_weights(decoder, tmp_path / "q")
    own, linear = made[MODULES[family]], decoder.linears()["layers.0.mlp.down"]
    x = rng.standard_normal((5, linear.in_features)).astype(np.float32)
    q = np.clip(np.rint(x / own["scale"] + own["offset"]), -128, 127).astype(np.int64)
    expected = (q @ own["weight"].T.astype(np.int64) + own["units"]) * own["both"].astype(np.float64)
    import mindspore as ms

    found = linear.method.multiply(ms.Tensor(x), linear.method.operands(ms.Tensor(0, ms.int32))).asnumpy()
    if linear.bias is not None:
        found = found + linear.bias.asnumpy()
        np.testing.assert_allclose(linear.bias.asnumpy(), own["bias"], atol=own["both"].max())  # rounded to units
    steps = np.abs(found - expected) / own["both"].max() / np.abs(own["weight"]).max()
    assert steps.max() < 0.01 or np.quantile(steps, 0.9) < 0.01  # a product of 1 / scale may round one activation apart


def test_what_is_written_of_static_activations_is_read_again(folders, tmp_path):
    """The writer's tensors are those of the formulas."""
    made = static_folder(folders["gpt_bigcode"], tmp_path / "q")
    tensors = load_file(tmp_path / "q" / WEIGHTS)
    for module, own in made.items():
        outputs, inputs = own["weight"].shape
        shape = LayerShape(module, outputs, inputs, "F32")
        given = StaticInput(
            float(own["scale"]), float(own["offset"]), own["weight"].sum(1, dtype=np.int32), own["bias"]
        )
        scale = (own["both"] / own["scale"])[:, None]
        written = MsModelSlim().beside_static(shape, Integers(8, activations=STATIC))
        assert [item.form.name.removeprefix(f"{module}.") for item in written] == [
            "input_scale", "input_offset", "deq_scale", "quant_bias"
        ]  # fmt: skip
        for item in written:
            values = item.make(scale, given)
            assert values.shape == item.form.shape
            np.testing.assert_allclose(values, tensors[item.form.name], rtol=1e-6, atol=1)
    halves = MsModelSlim().beside_static(LayerShape("m", 1, 1, "F16"), Integers(8, activations=STATIC))
    both = next(item for item in halves if item.form.name == "m.deq_scale")
    stored = both.make(np.array([[2.0]], np.float32), StaticInput(0.5, 0.0, np.zeros(1, np.int32)))
    assert both.form.dtype == "I64" and stored.tolist() == [np.float32(1.0).view(np.int32)]


def test_a_bias_that_the_model_does_not_have_is_refused(folders, tmp_path):
    static_folder(folders["llama"], tmp_path / "q")
    tensors = load_file(tmp_path / "q" / WEIGHTS)
    tensors[f"{MODULES['llama']}.quant_bias"][3] += 40
    save_file(tensors, tmp_path / "q" / WEIGHTS)
    weights = open_weights(tmp_path / "q")
    with pytest.raises(UserError, match=r"down_proj.quant_bias: holds a bias \(40 units of deq_scale at output 3\)"):
        load_weights(Decoder(weights.config, empty=True), weights.path)


REFUSED = [
    (
        {f"{MODULES['llama']}.weight": "W8A8_MIX"},
        {},
        "type 'W8A8_MIX' is not implemented; expected one of FLOAT, W8A16",
    ),
    ({f"{MODULES['llama']}.weight": "W4A8_DYNAMIC"}, {}, "type 'W4A8_DYNAMIC' is not implemented"),
    ({}, {"deq_scale": None}, "is W8A8, but model.layers.0.mlp.down_proj.deq_scale is missing"),
    ({}, {"quant_bias": np.zeros(64, np.float32)}, "quant_bias is F32 [64], expected I32 [64]"),
    ({}, {"input_scale": np.ones(2, np.float32)}, "input_scale is F32 [2], expected one number"),
    ({}, {"input_scale": np.zeros(1, np.float32)}, "input_scale: found 0.0, expected a number above 0"),
    ({}, {"input_offset": np.full(1, 0.5, np.float32)}, "input_offset: found 0.5, expected a whole number"),
]


@pytest.mark.parametrize("types, tensors, message", REFUSED, ids=[message[:30] for *_, message in REFUSED])
def test_what_does_not_fit_is_refused_by_name(types, tensors, message, folders, tmp_path):
    static_folder(folders["llama"], tmp_path / "q")
    description = json.loads((tmp_path / "q" / DESCRIPTION).read_text())
    stored = load_file(tmp_path / "q" / WEIGHTS)
    for part, values in tensors.items():
        name = f"{MODULES['llama']}.{part}"
        if values is None:
            del stored[name], description[name]
        else:
            stored[name] = values
    (tmp_path / "q" / DESCRIPTION).write_text(json.dumps({**description, **types}))
    save_file(stored, tmp_path / "q" / WEIGHTS)
    with pytest.raises(UserError) as error:
        weights = open_weights(tmp_path / "q")
        load_weights(Decoder(weights.config, empty=True), weights.path)
    assert message in str(error.value), str(error.value)


def scheme_of(folder: Path):
    described = json.loads((folder / "config.json").read_text())["quantization_config"]
    return QuantizationConfig.model_validate(described).config_groups["group_0"]


def test_the_package_reads_what_is_written(folders):
    scheme, tensors = scheme_of(folders["tensors"]), load_file(folders["tensors"] / "model.safetensors")
    assert scheme.format == "int-quantized" and scheme.input_activations.dynamic is True
    assert scheme.input_activations.strategy == "token" and scheme.weights.strategy == "channel"
    module = MODULES["llama"]
    state = {part: torch.tensor(tensors[f"{module}.{part}"]) for part in ("weight", "weight_scale")}
    expected = IntQuantizationCompressor.decompress(state, scheme)["weight"].numpy()
    weights = open_weights(folders["tensors"])
    assert weights.quantization == "W8A8_DYNAMIC"
    np.testing.assert_array_equal(read_parameters(weights.path, weights.config)["layers.0.mlp.down.weight"], expected)


def test_integers_are_those_of_the_package(folders, hf_folder):
    model, _, _ = hf_folder("llama", layers=1, **WIDE["llama"])
    scheme, tensors = scheme_of(folders["tensors"]), load_file(folders["tensors"] / "model.safetensors")
    weight = model.model.layers[0].mlp.down_proj.weight.detach()
    scale = torch.tensor(tensors[f"{MODULES['llama']}.weight_scale"])
    state = IntQuantizationCompressor.compress({"weight": weight, "weight_scale": scale}, scheme)
    np.testing.assert_array_equal(tensors[f"{MODULES['llama']}.weight"], state["weight"].numpy())


def check_but_for_ties(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal but where float32's last bit decides to which integer an activation between two goes: few tokens."""
    change = np.abs(found - expected)
    assert np.median(change) < 1e-5 and np.linalg.norm(change) < 5e-3 * np.linalg.norm(expected)


def test_transformers_gives_the_logits_but_for_its_divisor(folders, hf_folder, rng):
    """Tokens are divided by their largest magnitude / 127 by us and Ascend, / 127.5 by transformers; both are exact."""
    import mindspore as ms
    import transformers
    from families import BATCH, LENGTH, one_batch

    float_model, _, _ = hf_folder("llama", layers=1, **WIDE["llama"])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folders["tensors"], dtype=torch.float32).eval()
    ids, _, inputs = one_batch(rng)
    stored = load_file(folders["tensors"] / "model.safetensors")
    with torch.no_grad():
        given = torch.tensor(ids).long()
        by_transformers = theirs(input_ids=given).logits.numpy()
        fake = {divisor: fake_quantized(float_model, stored, divisor)(given).logits.numpy() for divisor in (127, 127.5)}
    for folder in (folders["tensors"], folders["llama"]):
        weights = open_weights(folder)
        ours = Decoder(weights.config.without_dropout(), empty=True)
        load_weights(ours, weights.path)
        ours.set_train(False)
        logits = ours.logits(ours(*inputs[:3], ms.Tensor(0, ms.int32))).asnumpy().reshape(BATCH, LENGTH, -1)
        expected = fake[127]
        if folder is folders["llama"]:  # by what its own file holds
            with torch.no_grad():
                expected = fake_quantized(float_model, load_file(folder / WEIGHTS))(given).logits.numpy()
        check_but_for_ties(logits, expected)
    check_but_for_ties(by_transformers, fake[127.5])


def change(folder: Path, path: str, value: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    where = config["quantization_config"]
    *above, last = path.split(".")
    for key in above:
        where = where[key]
    where[last] = value
    (folder / "config.json").write_text(json.dumps(config))


INPUTS = "config_groups.group_0.input_activations"


@pytest.mark.parametrize("offset", [None, -7])
def test_static_activations_of_the_package_are_read(offset, folders, tmp_path):
    shutil.copytree(folders["tensors"], tmp_path / "q")
    tensors = load_file(tmp_path / "q" / "model.safetensors")
    for name in [name for name in tensors if name.endswith(".weight_scale")]:
        module = name.removesuffix(".weight_scale")
        tensors[f"{module}.input_scale"] = np.array([0.02], np.float32)
        if offset is not None:
            tensors[f"{module}.input_zero_point"] = np.array([offset], np.int8)
    save_file(tensors, tmp_path / "q" / "model.safetensors")
    change(tmp_path / "q", INPUTS, {"num_bits": 8, "type": "int", "symmetric": offset is None, "strategy": "tensor"})
    weights = open_weights(tmp_path / "q")
    assert weights.quantization == "W8A8"
    decoder = Decoder(weights.config, empty=True)
    load_weights(decoder, weights.path)
    for linear in decoder.linears().values():
        np.testing.assert_array_equal(linear.input_rounding.asnumpy(), np.array([0.02, offset or 0], np.float32))


REFUSED_KEYS = [
    (f"{INPUTS}.num_bits", 4, "input_activations.num_bits 4 is not implemented; expected 8"),
    (f"{INPUTS}.strategy", "group", "input_activations.strategy 'group' is not implemented; expected token or"),
    (f"{INPUTS}.strategy", "tensor", "strategy tensor with dynamic True, symmetric True is not implemented"),
    (f"{INPUTS}.symmetric", False, "strategy token with dynamic True, symmetric False is not implemented"),
    (f"{INPUTS}.dynamic", False, "strategy token with dynamic False, symmetric True is not implemented"),
    (
        "config_groups.group_0.format",
        "pack-quantized",
        "pack-quantized are not implemented; expected symmetric weights",
    ),
    ("config_groups.group_0.weights.symmetric", False, "with zero points or pack-quantized are not implemented"),
]


@pytest.mark.parametrize("path, value, message", REFUSED_KEYS, ids=[message[:40] for *_, message in REFUSED_KEYS])
def test_keys_that_are_not_implemented_are_refused(path, value, message, folders, tmp_path):
    shutil.copytree(folders["tensors"], tmp_path / "q")
    change(tmp_path / "q", path, value)
    with pytest.raises(UserError) as error:
        open_weights(tmp_path / "q")
    assert message in str(error.value), str(error.value)


OPTIONS = [
    (["--method", "w8a8", "--group_size", "32"], "--method w8a8: found --group_size 32, expected symmetric weights"),
    (["--method", "w8a8", "--asymmetric"], "--method w8a8: found --asymmetric, expected symmetric weights"),
    (["--method", "w8a16", "--activations", "dynamic"], "--activations: found --method w8a16, expected w8a8"),
]


@pytest.mark.parametrize("options, message", OPTIONS, ids=[" ".join(options) for options, _ in OPTIONS])
def test_options_that_do_not_fit_are_refused(options, message, hf_folder, tmp_path):
    _, _, source = hf_folder("llama", layers=1, **WIDE["llama"])
    done = verb("quantize", source, tmp_path / "q", *options)
    assert done.returncode == 2 and message in done.stderr and done.stderr.strip().count("\n") == 0, done.stderr
    assert not (tmp_path / "q").exists()


def test_verify_compares_with_the_floats(folders, hf_folder, tmp_path):
    _, _, source = hf_folder("llama", layers=1, **WIDE["llama"])
    done = verb("inspect", folders["llama"])
    assert done.returncode == 0 and "quantized       W8A8_DYNAMIC; the rest as above" in done.stdout
    done = verb("convert", folders["llama"], tmp_path / "floats")
    assert done.returncode == 0, done.stderr
    before = read_parameters(folders["llama"], open_weights(folders["llama"]).config)
    after = read_parameters(tmp_path / "floats", open_weights(tmp_path / "floats").config)
    assert all((before[name] == after[name]).all() for name in before)
