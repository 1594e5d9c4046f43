"""NF4 against bitsandbytes, in both directions, and what is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import bitsandbytes.functional as bnb
import mindspore as ms
import numpy as np
import pytest
import torch
import transformers
from command import mindcoder as verb
from families import BATCH, LENGTH, one_batch
from mindspore import Tensor
from safetensors.torch import load_file, save_file

import mindcoder
from mindcoder.backend.nf4 import CODES, NestedScales, nearest, pack_codes, scale_numbers, to_codes
from mindcoder.checkpoint.load import load_weights, read_parameters
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError
from mindcoder.models.decoder import Decoder

SIZES = {
    "gpt_bigcode": {"n_embd": 128, "n_inner": 256},
    "llama": {"hidden_size": 128, "intermediate_size": 256},
}
UP = "model.layers.0.mlp.up_proj"
STATE = f"{UP}.weight.quant_state.bitsandbytes__nf4"


def test_the_numbers_are_the_packages():
    np.testing.assert_array_equal(CODES, bnb.get_4bit_type("nf4", device="cpu").numpy())
    np.testing.assert_array_equal(scale_numbers(), bnb.create_dynamic_map().numpy())


@pytest.mark.parametrize("shape", [(96, 128), (7, 64), (300, 192)])
@pytest.mark.parametrize("special", ["normal", "zeros", "halfway"])
def test_codes_and_their_bytes_are_the_packages(shape, special, rng):
    weight = (rng.standard_normal(shape) * 0.02).astype(np.float32)
    if special == "zeros":
        weight[3] = 0
    if special == "halfway":  # between two codes
        weight[:, ::2] = ((CODES[:-1] + CODES[1:]) / 2)[rng.integers(0, 15, weight[:, ::2].shape)]
        weight[:, 1] = 1
    packed, state = bnb.quantize_4bit(torch.tensor(weight), blocksize=64, quant_type="nf4")
    codes, absmax = to_codes(weight.reshape(shape[0], -1, 64))
    np.testing.assert_array_equal(pack_codes(codes.reshape(shape)).reshape(-1, 1), packed.numpy())
    np.testing.assert_array_equal(absmax.reshape(-1), state.absmax.numpy())


@pytest.mark.parametrize("count", [255, 256, 1000, 4096])
def test_bytes_of_scales_are_the_packages(count, rng):
    scales = np.abs(rng.standard_normal(count)).astype(np.float32)
    ours = NestedScales.of(scales)
    theirs, state = bnb.quantize_blockwise(torch.tensor(scales - ours.offset), blocksize=256)
    np.testing.assert_array_equal(state.absmax.numpy(), ours.absmax)
    differing = ours.numbers != theirs.numpy()
    assert differing.mean() <= 0.002  # halfway between two, the package's loops differ among themselves
    assert (np.abs(ours.numbers[differing].astype(int) - theirs.numpy()[differing]) == 1).all()
    expanded = bnb.dequantize_blockwise(torch.tensor(ours.numbers), state) + torch.tensor(ours.offset)
    np.testing.assert_array_equal(ours.expanded(), expanded.numpy())
    assert nearest(np.array([-2, 2], np.float32), CODES).tolist() == [0, 15]
    assert NestedScales.of(np.full(3, 0.25, np.float32)).expanded().tolist() == [0.25] * 3


@pytest.fixture(scope="module")
def source(hf_folder):
    """``source(family)``: a random model and its folder."""
    made: dict = {}

    def make(family: str):
        if family not in made:
            model, _, folder = hf_folder(family, layers=1, **SIZES[family])
            made[family] = model, folder
        return made[family]

    return make


@pytest.fixture(scope="module")
def written(source, tmp_path_factory) -> Path:
    """A Llama in NF4, written by us."""
    target = tmp_path_factory.mktemp("nf4") / "model"
    mindcoder.quantize(source("llama")[1], target, method="nf4", progress=False)
    return target


def test_the_package_reads_what_is_written(written, source):
    tensors, values = load_file(written / "model.safetensors"), read_parameters(written, open_weights(written).config)
    original = load_file(source("llama")[1] / "model.safetensors")
    for theirs, ours in {"self_attn.k_proj": "attention.key", "mlp.down_proj": "mlp.down"}.items():
        weight = f"model.layers.0.{theirs}.weight"
        parts = {
            name.removeprefix(f"{weight}."): item for name, item in tensors.items() if name.startswith(f"{weight}.")
        }
        state = bnb.QuantState.from_dict(parts, torch.device("cpu"))
        assert state.nested and state.blocksize == 64 and state.dtype == torch.float32
        found = bnb.dequantize_4bit(tensors[weight], state)
        np.testing.assert_array_equal(found.numpy(), values[f"layers.0.{ours}.weight"])
        packed, own = bnb.quantize_4bit(original[weight], blocksize=64, quant_type="nf4", compress_statistics=True)
        assert torch.equal(packed, tensors[weight])
        torch.testing.assert_close(own.offset, state.offset, rtol=1e-6, atol=0)
        torch.testing.assert_close(own.state2.absmax, state.state2.absmax, rtol=1e-4, atol=1e-9)
        assert (own.absmax != state.absmax).float().mean() < 0.01


def logits(decoder: Decoder, inputs) -> np.ndarray:
    decoder.set_train(False)
    return decoder.logits(decoder(*inputs[:3], Tensor(0, ms.int32))).asnumpy().reshape(BATCH, LENGTH, -1)


def loaded(folder: Path) -> Decoder:
    decoder = Decoder(open_weights(folder).config.without_dropout(), empty=True)
    load_weights(decoder, folder)
    return decoder


@pytest.mark.parametrize("family", SIZES)
def test_transformers_loads_what_is_written(family, source, tmp_path, rng):
    mindcoder.quantize(source(family)[1], tmp_path / "nf4", method="nf4", progress=False)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "nf4", dtype=torch.float32).eval()
    assert sum("Linear4bit" in type(module).__name__ for module in theirs.modules()) == (7 if family == "llama" else 4)
    ids, _, inputs = one_batch(rng)
    with torch.no_grad():
        expected = theirs(input_ids=torch.tensor(ids).long()).logits.numpy()
    np.testing.assert_allclose(logits(loaded(tmp_path / "nf4"), inputs), expected, atol=1e-4)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("family", SIZES)
def test_what_transformers_saves_is_read(family, double, source, tmp_path, rng):
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        source(family)[1], quantization_config=settings, dtype=torch.float32
    ).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    weights = open_weights(tmp_path / "theirs")
    assert weights.quantization == "NF4" and weights.kind == "bitsandbytes"
    ids, _, inputs = one_batch(rng)
    with torch.no_grad():
        expected = theirs(input_ids=torch.tensor(ids).long()).logits.numpy()
    np.testing.assert_allclose(logits(loaded(tmp_path / "theirs"), inputs), expected, atol=1e-4)


def test_converting_gives_the_values_and_inspect_says_how_they_are_kept(written, tmp_path):
    done = verb("convert", written, tmp_path / "float")
    assert done.returncode == 0 and "NF4, converted to float32" in done.stderr, done.stderr
    values = read_parameters(written, open_weights(written).config)
    floats = load_file(tmp_path / "float" / "model.safetensors")
    np.testing.assert_array_equal(floats[f"{UP}.weight"].numpy(), values["layers.0.mlp.up.weight"])
    shown = verb("inspect", written)
    assert "quantized       NF4; the rest as above" in shown.stdout and "bitsandbytes, llama" in shown.stdout


def test_the_verb_quantizes_and_refuses_other_choices(source, tmp_path):
    folder = source("llama")[1]
    for words, message in (
        (["--group_size", "32"], "--group_size: found 32, expected 64 with --method nf4"),
        (["--format", "compressed-tensors"], "--format: found compressed-tensors, expected bitsandbytes"),
        (["--algorithm", "mse"], "--algorithm: found mse, expected minmax with --method nf4"),
        (["--asymmetric"], "--asymmetric: --method nf4 has no offsets"),
    ):
        done = verb("quantize", folder, tmp_path / "q", "--method", "nf4", *words)
        assert done.returncode == 2 and message in done.stderr and not (tmp_path / "q").exists(), done.stderr
    done = verb("quantize", folder, tmp_path / "q", "--method", "w8a16", "--format", "bitsandbytes")
    assert done.returncode == 2 and "--format bitsandbytes: has no W8A16; expected --method nf4" in done.stderr
    done = verb("quantize", folder, tmp_path / "q", "--method", "nf4", "--fallback", ".*down_proj")
    assert done.returncode == 0 and "NF4, minmax, symmetric: 6 linear layers, weight error 9." in done.stdout
    config = json.loads((tmp_path / "q" / "config.json").read_text())
    assert set(config["quantization_config"]["llm_int8_skip_modules"]) == {"model.layers.0.mlp.down_proj", "lm_head"}


def test_blocks_that_go_beyond_rows_become_floats(source, tmp_path):
    """96 inputs: every second row begins in the midst of a block."""
    folder = shutil.copytree(source("llama")[1], tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    weight = tensors[f"{UP}.weight"][:, :96].contiguous()
    packed, state = bnb.quantize_4bit(weight, blocksize=64, quant_type="nf4", compress_statistics=True)
    tensors[f"{UP}.weight"] = packed
    tensors |= {f"{UP}.weight.{name}": item for name, item in state.as_dict(packed=True).items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    described = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": described}))
    weights = open_weights(folder)
    assert weights.quantization == ""
    found = weights.tensors[f"{UP}.weight"]
    np.testing.assert_array_equal(found.read(), bnb.dequantize_4bit(packed, state).numpy())
    np.testing.assert_array_equal(found.read_part(0, 3, 9), found.read()[3:9])


def changed(written: Path, target: Path, settings: dict, parts: dict, state: dict) -> Path:
    """A copy with other settings, tensors and state of one module."""
    shutil.copytree(written, target)
    config = json.loads((target / "config.json").read_text())
    config["quantization_config"] |= settings
    (target / "config.json").write_text(json.dumps(config))
    tensors = load_file(target / "model.safetensors")
    if state:
        given = {**json.loads(tensors[STATE].numpy().tobytes()), **state}
        text = json.dumps({key: value for key, value in given.items() if value is not None})
        tensors[STATE] = torch.tensor(list(text.encode()), dtype=torch.uint8)
    tensors |= {f"{UP}.{name}": item for name, item in parts.items()}
    tensors = {name: item for name, item in tensors.items() if item is not None}
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    return target


REFUSED = [
    ({"bnb_4bit_quant_type": "fp4"}, {}, {}, "bnb_4bit_quant_type 'fp4' is not implemented; expected nf4"),
    ({"load_in_8bit": True}, {}, {}, "load_in_8bit True is not implemented; expected False"),
    ({"load_in_4bit": False}, {}, {}, "load_in_4bit False is not implemented; expected True"),
    ({"bnb_4bit_quant_storage": "bfloat16"}, {}, {}, "bnb_4bit_quant_storage 'bfloat16' is not implemented"),
    ({"bnb_4bit_use_doubel_quant": True}, {}, {}, "unknown key; the nearest is bnb_4bit_use_double_quant"),
    ({}, {}, {"quant_type": "fp4"}, "bitsandbytes__nf4.quant_type 'fp4' is not implemented"),
    ({}, {}, {"blocksize": 48}, "bitsandbytes__nf4.blocksize 48 is not implemented"),
    ({}, {}, {"nested_blocksize": 128}, "bitsandbytes__nf4.nested_blocksize 128 is not implemented"),
    ({}, {}, {"shape": [256]}, "shape: found [256], expected [outputs, inputs]"),
    ({}, {}, {"nested_offset": "x"}, "nested_offset: expected a number, found 'x'"),
    ({}, {}, {"shape": [512, 128]}, f"{UP}.weight is U8 [16384, 1], expected 32768 numbers of U8"),
    ({}, {"weight.absmax": None}, {}, f"{UP}.weight.absmax is missing (nf4)"),
    ({}, {"weight.absmax": torch.zeros(5, dtype=torch.uint8)}, {}, "weight.absmax is U8 [5], expected 512 numbers"),
    ({}, {"weight.nested_absmax": None}, {}, f"{UP}.weight.nested_absmax is missing (nf4, double quantization)"),
    ({}, {"weight.quant_map": torch.linspace(-1, 1, 16)}, {}, "weight.quant_map has other numbers than nf4"),
    ({}, {"weight.nested_quant_map": torch.linspace(-1, 1, 256)}, {}, "has other numbers than bitsandbytes' dynamic"),
    ({}, {"weight.quant_state.bitsandbytes__nf4": torch.zeros(4, dtype=torch.uint8)}, {}, "bad JSON"),
    ({}, {"weight.quant_state.bitsandbytes__fp4": torch.zeros(4, dtype=torch.uint8)}, {}, "fp4 is not implemented"),
]


@pytest.mark.parametrize("settings, parts, state, message", REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_what_is_not_implemented_is_refused_by_name(settings, parts, state, message, written, tmp_path):
    folder = changed(written, tmp_path / "q", settings, parts, state)
    with pytest.raises(UserError) as error:
        open_weights(folder)
    assert message in str(error.value) and "\n" not in str(error.value), str(error.value)


def test_other_kinds_of_the_package_are_refused(written, tmp_path):
    folder = changed(written, tmp_path / "q", {}, {}, {})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "bitsandbytes"}}))
    with pytest.raises(UserError, match="load_in_4bit is missing; of bitsandbytes, nf4 is implemented"):
        open_weights(folder)
