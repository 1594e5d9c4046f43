"""compressed-tensors' folders against its own package, in both directions, and what is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from compressed_tensors.quantization import QuantizationConfig, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from quantized import WIDE, named
from safetensors.torch import load_file, save_file

import mindcoder
from mindcoder.checkpoint.load import read_parameters
from mindcoder.checkpoint.quantized.packing import from_words, pack_nibbles, to_words, unpack_nibbles
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError

PACKED = [
    {"method": "w4a16", "group_size": 32},
    {"method": "w4a16", "group_size": 64, "symmetric": False},
    {"method": "w8a16", "format": "compressed-tensors"},
    {"method": "w8a16", "format": "compressed-tensors", "group_size": 32, "symmetric": False},
]
UP = "model.layers.0.mlp.up_proj"


@pytest.fixture(scope="module")
def source(hf_folder):
    """A Llama of one layer, and its folder."""
    model, _, folder = hf_folder("llama", layers=1, **WIDE["llama"])
    return model, folder


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("inputs", [32, 36, 30])
def test_words_are_those_of_the_package(bits, inputs, rng):
    limit = 1 << (bits - 1)
    numbers = rng.integers(-limit, limit, (5, inputs)).astype(np.int8)
    words = to_words(numbers, bits)
    unpacked = unpack_from_int32(torch.tensor(words), bits, torch.Size([5, inputs]))
    np.testing.assert_array_equal(unpacked.numpy(), numbers)
    np.testing.assert_array_equal(from_words(words, bits, inputs), numbers)
    if bits == 4:
        np.testing.assert_array_equal(unpack_nibbles(pack_nibbles(numbers)), numbers)


def scheme_of(folder: Path) -> QuantizationScheme:
    """The package's reading of a folder's description."""
    described = json.loads((folder / "config.json").read_text())["quantization_config"]
    return QuantizationConfig.model_validate(described).config_groups["group_0"]


@pytest.mark.parametrize("options", PACKED, ids=named)
def test_the_package_reads_what_is_written(options, source, tmp_path):
    _, folder = source
    mindcoder.quantize(folder, tmp_path / "q", progress=False, **options)
    scheme, tensors = scheme_of(tmp_path / "q"), load_file(tmp_path / "q" / "model.safetensors")
    weights = open_weights(tmp_path / "q")
    stored, values = weights.stored_parameters(weights.config), read_parameters(tmp_path / "q", weights.config)
    names = {"self_attn.k_proj": "attention.key", "mlp.up_proj": "mlp.up", "mlp.down_proj": "mlp.down"}
    for theirs, ours in names.items():
        module = f"model.layers.0.{theirs}."
        state = {name.removeprefix(module): item for name, item in tensors.items() if name.startswith(module)}
        bits = scheme.weights.num_bits
        integers = unpack_from_int32(state["weight_packed"], bits, torch.Size(state["weight_shape"].tolist()))
        kept = stored[f"layers.0.{ours}.weight"].read()
        np.testing.assert_array_equal(unpack_nibbles(kept) if bits == 4 else kept, integers.numpy())
        weight = PackedQuantizationCompressor.decompress(state, scheme)["weight"]
        np.testing.assert_array_equal(values[f"layers.0.{ours}.weight"], weight.numpy())


@pytest.mark.parametrize("options", PACKED, ids=named)
def test_what_the_package_writes_is_read(options, source, tmp_path):
    """The package's own scales and words, in a folder with our description; bfloat16 scales too."""
    _, folder = source
    mindcoder.quantize(folder, tmp_path / "q", progress=False, **options)
    scheme, tensors = scheme_of(tmp_path / "q"), load_file(tmp_path / "q" / "model.safetensors")
    weight = torch.randn(128, 64, generator=torch.Generator().manual_seed(3)).to(torch.bfloat16)
    size = scheme.weights.group_size or 64
    groups = weight.unflatten(1, (-1, size))
    scale, zero = calculate_qparams(groups.amin(2), groups.amax(2), scheme.weights)
    state = PackedQuantizationCompressor.compress(
        {"weight": weight, "weight_scale": scale, "weight_zero_point": zero.to(torch.int8)}, scheme
    )
    assert state["weight_scale"].dtype == torch.bfloat16
    tensors = {name: item for name, item in tensors.items() if not name.startswith(UP)}
    save_file({**tensors, **{f"{UP}.{name}": item for name, item in state.items()}}, tmp_path / "q/model.safetensors")
    single = {**state, "weight_scale": state["weight_scale"].float()}
    expected = PackedQuantizationCompressor.decompress(single, scheme)["weight"]
    found = read_parameters(tmp_path / "q", open_weights(tmp_path / "q").config)
    np.testing.assert_array_equal(found["layers.0.mlp.up.weight"], expected.numpy())


def test_integers_without_packing_are_read(source, tmp_path):
    _, folder = source
    options = {"method": "w8a16", "format": "compressed-tensors", "group_size": 32, "symmetric": False}
    mindcoder.quantize(folder, tmp_path / "q", progress=False, **options)
    before = read_parameters(tmp_path / "q", open_weights(tmp_path / "q").config)
    tensors = load_file(tmp_path / "q" / "model.safetensors")
    for name in [name for name in tensors if name.endswith(".weight_packed")]:
        module = name.removesuffix(".weight_packed")
        shape = torch.Size(tensors.pop(f"{module}.weight_shape").tolist())
        tensors[f"{module}.weight"] = unpack_from_int32(tensors.pop(name), 8, shape).contiguous()
        zero = tensors[f"{module}.weight_zero_point"]
        zeros = unpack_from_int32(zero, 8, tensors[f"{module}.weight_scale"].shape, packed_dim=0)
        tensors[f"{module}.weight_zero_point"] = zeros.contiguous()
    save_file(tensors, tmp_path / "q" / "model.safetensors")
    change(tmp_path / "q", "format", "int-quantized")
    change(tmp_path / "q", "config_groups.group_0.format", "int-quantized")
    after = read_parameters(tmp_path / "q", open_weights(tmp_path / "q").config)
    assert all((before[name] == after[name]).all() for name in before)


@pytest.mark.parametrize("family", ["llama", "gpt_bigcode"])
def test_transformers_gives_the_logits(family, hf_folder, tmp_path, rng):
    import mindspore as ms
    import transformers
    from families import BATCH, LENGTH, one_batch
    from mindspore import Tensor
    from quantized import quantized_and_float

    _, _, folder = hf_folder(family, layers=1, **WIDE[family])
    ours, _ = quantized_and_float(folder, tmp_path / "q", method="w4a16", group_size=32)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "q", dtype=torch.float32).eval()
    ids, _, inputs = one_batch(rng)
    ours.set_train(False)
    logits = ours.logits(ours(*inputs[:3], Tensor(0, ms.int32))).asnumpy().reshape(BATCH, LENGTH, -1)
    with torch.no_grad():
        expected = theirs(input_ids=torch.tensor(ids).long()).logits.numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def change(folder: Path, path: str, value: object) -> None:
    """Set a key of ``quantization_config``."""
    config = json.loads((folder / "config.json").read_text())
    where = config["quantization_config"]
    *above, last = path.split(".")
    for key in above:
        where = where[key]
    where[last] = value
    (folder / "config.json").write_text(json.dumps(config))


GROUP = "config_groups.group_0"
REFUSED = [
    ("quant_method", "awq2", "quantization_config.quant_method 'awq2' is not implemented; expected compressed-tensors"),
    ("format", "float-quantized", "quantization_config.format 'float-quantized' is not implemented; expected pack-q"),
    ("kv_cache_scheme", {"num_bits": 8}, "self_attn.k_scale is missing; keys and values in int8 have scales in every"),
    ("kv_cache_scheme", {"type": "float"}, "kv_cache_scheme.type 'float' is not implemented; expected int"),
    ("kv_cache_scheme", {"dynamic": True}, "kv_cache_scheme.dynamic True is not implemented; expected False"),
    ("kv_cache_scheme", {"strategy": "group"}, "kv_cache_scheme.strategy 'group' is not implemented; expected tensor"),
    ("sparsity_config", {"format": "x"}, "quantization_config.sparsity_config {'format': 'x'} is not implemented"),
    ("ignroe", [], "quantization_config.ignroe: unknown key; the nearest is ignore"),
    (
        f"{GROUP}.input_activations",
        {"num_bits": 8},
        "group_0: input_activations with weights in groups, with zero points",
    ),
    (
        f"{GROUP}.input_activations",
        {"num_bits": 4},
        "group_0.input_activations.num_bits 4 is not implemented; expected 8",
    ),
    (f"{GROUP}.weights.type", "float", "group_0.weights.type 'float' is not implemented; expected int"),
    (f"{GROUP}.weights.num_bits", 3, "group_0.weights.num_bits 3 is not implemented; expected 4 or 8"),
    (f"{GROUP}.weights.strategy", "block", "group_0.weights.strategy 'block' is not implemented; expected group or"),
    (f"{GROUP}.weights.actorder", "group", "group_0.weights.actorder 'group' is not implemented"),
    (f"{GROUP}.weights.dynamic", True, "group_0.weights.dynamic True is not implemented"),
    (f"{GROUP}.weights.group_size", 64, "weight_scale is F32 ["),
    (f"{GROUP}.weights.num_bits", 8, "weight_packed is I32 ["),
    (f"{GROUP}.weights.symmetric", False, "weight_zero_point is missing (pack-quantized, W4A16 in groups of 32, asym"),
    ("ignore", "lm_head", "quantization_config.ignore: found 'lm_head', expected a list of names"),
    ("ignore", ["lm_head", UP], f"ignore has '{UP}', but {UP} is quantized"),
    ("ignore", ["re:.*up_proj"], f"ignore has 're:.*up_proj', but {UP} is quantized"),
    ("ignore", ["re:(*"], "ignore: 're:(*' is not a regular expression"),
    (f"{GROUP}.targets", ["re:(*"], "group_0.targets: 're:(*' is not a regular expression"),
    (f"{GROUP}.targets", ["re:.*mlp.*"], "no group of quantization_config.config_groups has this module as a target"),
]


@pytest.mark.parametrize("path, value, message", REFUSED, ids=[f"{path} {value}" for path, value, _ in REFUSED])
def test_what_is_not_implemented_is_refused_by_name(path, value, message, source, tmp_path_factory, tmp_path):
    _, folder = source
    mindcoder.quantize(folder, tmp_path / "q", progress=False, **PACKED[0])
    change(tmp_path / "q", path, value)
    with pytest.raises(UserError) as error:
        open_weights(tmp_path / "q")
    assert message in str(error.value), str(error.value)


@pytest.mark.parametrize("options", [PACKED[0], PACKED[2]], ids=named)
def test_a_module_has_its_scales_and_one_weight(options, source, tmp_path):
    _, folder = source
    mindcoder.quantize(folder, tmp_path / "q", progress=False, **options)
    tensors = load_file(tmp_path / "q" / "model.safetensors")
    weight = torch.zeros(128, 64)
    save_file({**tensors, f"{UP}.weight": weight}, tmp_path / "q" / "model.safetensors")
    with pytest.raises(UserError, match=f"{UP} has both a weight in floating point and a quantized one"):
        open_weights(tmp_path / "q")
    del tensors[f"{UP}.weight_scale"]
    save_file(tensors, tmp_path / "q" / "model.safetensors")
    with pytest.raises(UserError, match=rf"{UP}\.weight_scale is missing \(pack-quantized, W"):
        open_weights(tmp_path / "q")
    tensors[f"{UP}.weight"] = weight.to(torch.int8)
    del tensors[f"{UP}.weight_packed"], tensors[f"{UP}.weight_shape"]
    save_file(tensors, tmp_path / "q" / "model.safetensors")
    change(tmp_path / "q", "format", "int-quantized")
    change(tmp_path / "q", "config_groups.group_0.weights.num_bits", 8)
    change(tmp_path / "q", "config_groups.group_0.format", "int-quantized")
    with pytest.raises(UserError, match=r"is missing \(int-quantized, W8A16"):
        open_weights(tmp_path / "q")


def test_targets_of_several_groups_are_told_apart(source, tmp_path):
    """Four bits in the MLP, eight elsewhere."""
    _, folder = source
    mindcoder.quantize(folder, tmp_path / "four", progress=False, **PACKED[0])
    mindcoder.quantize(folder, tmp_path / "eight", progress=False, **PACKED[2])
    shutil.copytree(tmp_path / "four", tmp_path / "both")
    four, eight = (load_file(tmp_path / name / "model.safetensors") for name in ("four", "eight"))
    chosen = {name: item for name, item in four.items() if ".self_attn." not in name}
    save_file({**chosen, **{name: item for name, item in eight.items() if ".self_attn." in name}},
              tmp_path / "both" / "model.safetensors")  # fmt: skip
    group = json.loads((tmp_path / "eight" / "config.json").read_text())["quantization_config"]["config_groups"]
    change(tmp_path / "both", "config_groups.group_1", {**group["group_0"], "targets": ["re:.*self_attn.*"]})
    weights = open_weights(tmp_path / "both")
    assert weights.quantization == "W4A16 in groups of 32, W8A16"
    found = read_parameters(tmp_path / "both", weights.config)
    expected = read_parameters(tmp_path / "eight", weights.config)["layers.0.attention.key.weight"]
    np.testing.assert_array_equal(found["layers.0.attention.key.weight"], expected)
