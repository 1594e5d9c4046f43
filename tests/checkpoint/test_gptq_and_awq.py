"""GPTQ's and AWQ's folders, packed here number by number after their own descriptions; AWQ against a converter too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from compressed_tensors.entrypoints.convert.converters.autoawq import AutoAWQConverter
from quantized import WIDE
from safetensors.numpy import load_file, save_file

from mindcoder.checkpoint.load import load_weights, read_parameters
from mindcoder.checkpoint.quantized.packing import unpack_nibbles
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError
from mindcoder.models.decoder import Decoder

MODULES = {"self_attn.k_proj": "attention.key", "mlp.up_proj": "mlp.up", "mlp.down_proj": "mlp.down"}
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
GROUP = 32


def words_along_rows(numbers: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned ``[rows, columns]`` packed along the rows, lowest bits first: int32 ``[rows / p, columns]``."""
    per_word = 32 // bits
    words = np.zeros((numbers.shape[0] // per_word, numbers.shape[1]), np.uint32)
    for row in range(numbers.shape[0]):
        words[row // per_word] |= numbers[row].astype(np.uint32) << np.uint32(bits * (row % per_word))
    return words.view(np.int32)


def awq_words(numbers: np.ndarray) -> np.ndarray:
    """Unsigned 4-bit ``[rows, columns]`` packed along the columns in AWQ's order: int32 ``[rows, columns / 8]``."""
    words = np.zeros((numbers.shape[0], numbers.shape[1] // 8), np.uint32)
    for column in range(words.shape[1]):
        for nibble, place in enumerate(AWQ_ORDER):
            words[:, column] |= numbers[:, 8 * column + place].astype(np.uint32) << np.uint32(4 * nibble)
    return words.view(np.int32)


@pytest.fixture(scope="module")
def source(hf_folder) -> Path:
    """A Llama of one layer."""
    return hf_folder("llama", layers=1, **WIDE["llama"])[2]


def write(source: Path, target: Path, description: dict, made: dict) -> Path:
    """The folder with the modules replaced and ``quantization_config`` set."""
    shutil.copytree(source, target)
    tensors = load_file(target / "model.safetensors")
    for module, parts in made.items():
        del tensors[f"model.layers.0.{module}.weight"]
        tensors |= {f"model.layers.0.{module}.{part}": np.ascontiguousarray(item) for part, item in parts.items()}
    save_file(tensors, target / "model.safetensors")
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, "quantization_config": description}))
    return target


def integers(rng, shape: tuple[int, int], bits: int, symmetric: bool):
    """Unsigned numbers ``[in, out]``, zeros and float16 scales ``[groups, out]``, and the weight ``[out, in]``."""
    numbers = rng.integers(0, 1 << bits, shape)
    groups = (shape[0] // GROUP, shape[1])
    zeros = np.full(groups, 1 << (bits - 1)) if symmetric else rng.integers(0, 1 << bits, groups)
    scales = (rng.random(groups) + 0.1).astype(np.float16)
    repeated = [np.repeat(item, GROUP, 0) for item in (zeros, scales.astype(np.float32))]
    weight = ((numbers - repeated[0]).astype(np.float32) * repeated[1]).T
    return numbers, zeros, scales, weight


def shapes(source: Path) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of `MODULES`."""
    tensors = load_file(source / "model.safetensors")
    return {module: tensors[f"model.layers.0.{module}.weight"].shape[::-1] for module in MODULES}


def gptq(source: Path, target: Path, rng, bits: int, symmetric: bool, version: str, ordered: bool = False):
    """A folder of GPTQ and the weights that it stands for; ``ordered``: groups of inputs that are not neighbours."""
    made, expected = {}, {}
    for module, shape in shapes(source).items():
        numbers, zeros, scales, expected[module] = integers(rng, shape, bits, symmetric)
        stored = zeros if version == "gptq_v2" else (zeros - 1) % (1 << bits)
        if version == "gptq" and symmetric and bits == 4:
            assert (words_along_rows(stored.T, bits).view(np.uint32) == 0x77777777).all()
        made[module] = {
            "qweight": words_along_rows(numbers, bits),
            "qzeros": words_along_rows(stored.T, bits).T,
            "scales": scales,
            "g_idx": (np.arange(shape[0]) // GROUP).astype(np.int32),
        }
        if ordered:  # inputs are stored in their own order, groups were made in another one
            moved = rng.permutation(shape[0])
            made[module]["qweight"] = words_along_rows(numbers[moved], bits)
            made[module]["g_idx"] = made[module]["g_idx"][moved]
            expected[module] = expected[module][:, moved]
    description = {
        "quant_method": "gptq", "bits": bits, "group_size": GROUP, "desc_act": False, "sym": symmetric,
        "checkpoint_format": version, "pack_dtype": "int32", "lm_head": False, "meta": {"damp_percent": 0.01},
    }  # fmt: skip
    return write(source, target, description, made), expected


@pytest.mark.parametrize("version", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("bits, symmetric", [(4, True), (4, False), (8, False)])
def test_gptq_is_read_by_its_formula(version, bits, symmetric, source, tmp_path, rng):
    folder, expected = gptq(source, tmp_path / "q", rng, bits, symmetric, version)
    weights = open_weights(folder)
    assert weights.quantization == f"W{bits}A16 in groups of {GROUP}" and weights.kind == "gptq"
    found = read_parameters(folder, weights.config)
    for module, ours in MODULES.items():
        np.testing.assert_array_equal(found[f"layers.0.{ours}.weight"], expected[module])
    assert weights.stored_parameters(weights.config)["layers.0.mlp.up.weight"].dtype == ("U8" if bits == 4 else "I8")


def test_gptq_with_other_bits_in_some_modules(source, tmp_path, rng):
    """GPTQModel's ``dynamic``: the first expression that matches from a name's beginning decides."""
    folder, expected = gptq(source, tmp_path / "q", rng, 4, True, "gptq")
    numbers, zeros, scales, expected["mlp.down_proj"] = integers(rng, shapes(source)["mlp.down_proj"], 8, True)
    tensors, down = load_file(folder / "model.safetensors"), "model.layers.0.mlp.down_proj"
    tensors |= {
        f"{down}.qweight": words_along_rows(numbers, 8),
        f"{down}.qzeros": np.ascontiguousarray(words_along_rows((zeros - 1).T, 8).T),
        f"{down}.scales": scales,
    }
    save_file(tensors, folder / "model.safetensors")
    set_key(folder, "modules_in_block_to_quantize", [["self_attn.k_proj"], ["mlp.up_proj", "mlp.down_proj"]])
    set_key(
        folder,
        "dynamic",
        {"-:.*o_proj": {}, "down": {"bits": 4}, r"+:.*\.0\.mlp\.down": {"bits": 8, "group_size": 32}, ".*": {}},
    )
    weights = open_weights(folder)
    assert weights.quantization == f"W4A16 in groups of {GROUP}, W8A16 in groups of {GROUP}"
    found = read_parameters(folder, weights.config)
    for module, ours in MODULES.items():
        np.testing.assert_array_equal(found[f"layers.0.{ours}.weight"], expected[module])


def test_groups_by_activations_become_floats(source, tmp_path, rng):
    folder, expected = gptq(source, tmp_path / "q", rng, 4, False, "gptq", ordered=True)
    weights = open_weights(folder)
    assert weights.quantization == ""
    found, stored = read_parameters(folder, weights.config), weights.stored_parameters(weights.config)
    for module, ours in MODULES.items():
        np.testing.assert_array_equal(found[f"layers.0.{ours}.weight"], expected[module])
        assert stored[f"layers.0.{ours}.weight"].dtype == "F32"


def set_key(folder: Path, key: str, value: object) -> None:
    """Of ``quantization_config``."""
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"][key] = value
    (folder / "config.json").write_text(json.dumps(config))


def check_not_converted(folder: Path) -> None:
    """``modules_to_not_convert`` names what is in floating point, by a part of its name, and nothing else."""
    key = "modules_to_not_convert"
    for value in (["lm_head"], ["self_attn.q_proj", "mlp.gate"], None):
        set_key(folder, key, value)
        open_weights(folder)
    for value, message in (
        (["lm_head", "down_"], "modules_to_not_convert has 'down_', but model.layers.0.mlp.down_proj is quantized"),
        ("lm_head", "modules_to_not_convert: found 'lm_head', expected a list of names"),
    ):
        set_key(folder, key, value)
        with pytest.raises(UserError, match=message):
            open_weights(folder)
    set_key(folder, key, None)


def test_awq_is_read_by_its_formula_and_as_the_package_converts_it(source, tmp_path, rng):
    made, expected = {}, {}
    for module, shape in shapes(source).items():
        numbers, zeros, scales, expected[module] = integers(rng, shape, 4, False)
        made[module] = {"qweight": awq_words(numbers), "qzeros": awq_words(zeros), "scales": scales}
    description = {
        "quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm",
        "modules_to_not_convert": None,
    }  # fmt: skip
    folder = write(source, tmp_path / "q", description, made)
    weights = open_weights(folder)
    check_not_converted(folder)
    found, stored = read_parameters(folder, weights.config), weights.stored_parameters(weights.config)
    for module, ours in MODULES.items():
        np.testing.assert_array_equal(found[f"layers.0.{ours}.weight"], expected[module])
        given = {f"m.{part}": torch.tensor(item) for part, item in made[module].items()}
        converted = AutoAWQConverter(group_size=GROUP).process(given)
        numbers = unpack_from_int32(converted["m.weight_packed"], 4, torch.Size(converted["m.weight_shape"].tolist()))
        np.testing.assert_array_equal(unpack_nibbles(stored[f"layers.0.{ours}.weight"].read()), numbers.numpy())
        zeros = unpack_from_int32(converted["m.weight_zero_point"], 4, converted["m.weight_scale"].shape, 0)
        np.testing.assert_array_equal(stored[f"layers.0.{ours}.weight_offset"].read(), zeros.numpy())


REFUSED = [
    ({"bits": 3}, {}, "quantization_config.bits 3 is not implemented; expected 4 or 8"),
    ({"checkpoint_format": "marlin"}, {}, "checkpoint_format 'marlin' is not implemented; expected gptq or gptq_v2"),
    ({"lm_head": True}, {}, "lm_head True is not implemented"),
    ({"bits_": 4}, {}, "quantization_config.bits_: unknown key; the nearest is bits"),
    (
        {"modules_in_block_to_quantize": [["self_attn.k_proj"], ["mlp.up_proj"]]},
        {},
        "modules_in_block_to_quantize does not have model.layers.0.mlp.down_proj, which is quantized",
    ),
    (
        {"modules_in_block_to_quantize": "mlp"},
        {},
        "modules_in_block_to_quantize: found 'mlp', expected a list of lists",
    ),
    ({"dynamic": {"-:.*down": {}}}, {}, "dynamic has '-:.*down', but model.layers.0.mlp.down_proj is quantized"),
    ({"dynamic": {"+:.*down": {"bits": 3}}}, {}, "dynamic.+:.*down.bits 3 is not implemented; expected 4 or 8"),
    ({"dynamic": {"+:.*down": {"bit": 4}}}, {}, "dynamic.+:.*down.bit: unknown key; the nearest is bits"),
    ({"dynamic": {"+:(": {}}}, {}, "dynamic: '+:(' is not a regular expression"),
    ({"dynamic": []}, {}, "dynamic: found [], expected an object"),
    ({}, {"g_idx": np.arange(64).astype(np.int32) % 3}, "g_idx: expected groups from 0 to 1"),
    ({}, {"qzeros": np.zeros((2, 5), np.int32)}, "qzeros is I32 [2, 5], expected I32 [2, 16]"),
    ({}, {"scales": np.zeros((2, 5), np.float16)}, "scales is [2, 5], expected [groups, 128]"),
    ({}, {"scales": np.zeros(5, np.float16)}, "scales is [5], expected [groups, 128]"),
    (
        {},
        {"qweight": np.zeros((0, 128), np.int32), "g_idx": np.zeros(0, np.int32)},
        "qweight is [0, 128], expected [inputs / 8, outputs]",
    ),
]


@pytest.mark.parametrize("settings, parts, message", REFUSED, ids=[message[:30] for *_, message in REFUSED])
def test_what_is_not_implemented_is_refused_by_name(settings, parts, message, source, tmp_path, rng):
    folder, _ = gptq(source, tmp_path / "q", rng, 4, True, "gptq")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] |= settings
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    tensors |= {f"model.layers.0.mlp.up_proj.{part}": item for part, item in parts.items()}
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError) as error:
        open_weights(folder)
    assert message in str(error.value), str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scales_that_are_not_finite_are_refused(value, source, tmp_path, rng):
    folder, _ = gptq(source, tmp_path / "q", rng, 4, True, "gptq")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.scales"][1, 3] = value
    save_file(tensors, folder / "model.safetensors")
    weights = open_weights(folder)
    with pytest.raises(UserError, match=rf"mlp\.up_proj\.scales: found {value}, expected finite numbers"):
        read_parameters(folder, weights.config)
    with pytest.raises(UserError, match=f": found {value}, expected finite numbers"):
        load_weights(Decoder(weights.config, empty=True), folder)


@pytest.mark.parametrize("method", ["hqq", "fp8", 7])
def test_other_methods_are_refused_by_name(method, source, tmp_path):
    folder = write(source, tmp_path / "q", {"quant_method": method}, {})
    with pytest.raises(UserError, match=r"quantization_config.quant_method .* is not implemented; expected"):
        open_weights(folder)
