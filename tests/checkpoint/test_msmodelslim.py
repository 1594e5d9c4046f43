"""msModelSlim's folders: what is written, the formula on tensors made by hand, and what is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import mindcoder as verb
from quantized import W8A16_GROUPS, WIDE
from safetensors.numpy import load_file, save_file

import mindcoder
from mindcoder.checkpoint.load import read_parameters
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError

DESCRIPTION, WEIGHTS = "quant_model_description.json", "quant_model_weights.safetensors"
QUERY = "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def folder(hf_folder, tmp_path_factory) -> Path:
    """A Llama of one layer in W8A16, groups of 32, asymmetric."""
    _, _, source = hf_folder("llama", layers=1, **WIDE["llama"])
    target = tmp_path_factory.mktemp("quantized") / "model"
    mindcoder.quantize(source, target, progress=False, **W8A16_GROUPS)
    return target


def test_the_description_has_the_type_of_every_tensor(folder):
    description = json.loads((folder / DESCRIPTION).read_text())
    tensors = load_file(folder / WEIGHTS)
    settings = {"model_quant_type": "W8A16", "version": "1.0.0", "group_size": 32, "metadata": {}, "optional": {}}
    assert {key: description.pop(key) for key in settings} == settings
    assert description.keys() == tensors.keys()
    assert {description[f"{QUERY}.{part}"] for part in ("weight", "weight_scale", "weight_offset")} == {"W8A16"}
    assert description["lm_head.weight"] == description["model.embed_tokens.weight"] == "FLOAT"
    assert tensors[f"{QUERY}.weight"].dtype == np.int8
    for part in ("weight_scale", "weight_offset"):
        assert tensors[f"{QUERY}.{part}"].dtype == np.float32 and tensors[f"{QUERY}.{part}"].shape == (64, 2)
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())


def test_symmetric_scales_of_a_row_have_zero_offsets(hf_folder, tmp_path):
    _, _, source = hf_folder("gpt_bigcode", layers=1, **WIDE["gpt_bigcode"])
    mindcoder.quantize(source, tmp_path / "q", method="w8a16", progress=False)
    tensors = load_file(tmp_path / "q" / WEIGHTS)
    fused = "transformer.h.0.attn.c_attn"
    assert tensors[f"{fused}.weight"].shape[1:] == (64,) and tensors[f"{fused}.weight_scale"].shape[1:] == (1,)
    assert not tensors[f"{fused}.weight_offset"].any()
    assert json.loads((tmp_path / "q" / DESCRIPTION).read_text())["group_size"] == 0


def copied(folder: Path, target: Path) -> Path:
    """A copy to change."""
    shutil.copytree(folder, target)
    return target


def test_integers_made_by_hand_are_read_by_the_formula(folder, tmp_path):
    """W = (weight - weight_offset) * weight_scale, two groups to a row."""
    made = copied(folder, tmp_path / "made")
    tensors = load_file(made / WEIGHTS)
    rng = np.random.default_rng(1)
    weight = rng.integers(-128, 128, (64, 64)).astype(np.int8)
    scale = rng.random((64, 2)).astype(np.float32)
    offset = rng.integers(-128, 128, (64, 2)).astype(np.float32)
    tensors |= {f"{QUERY}.weight": weight, f"{QUERY}.weight_scale": scale, f"{QUERY}.weight_offset": offset}
    save_file(tensors, made / WEIGHTS)
    expected = np.empty((64, 64), np.float32)
    for row in range(64):
        for column in range(64):
            group = column // 32
            expected[row, column] = (np.float32(weight[row, column]) - offset[row, group]) * scale[row, group]
    found = read_parameters(made, open_weights(made).config)
    np.testing.assert_array_equal(found["layers.0.attention.query.weight"], expected)


def test_the_names_of_the_older_tool_are_read(folder, tmp_path):
    made = copied(folder, tmp_path / "older")
    (made / WEIGHTS).rename(made / "quant_model_weight.safetensors")
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps({**config, "quantize": "w8a16"}))
    description = json.loads((made / DESCRIPTION).read_text())
    for key in ("version", "group_size", "metadata", "optional"):
        del description[key]
    (made / DESCRIPTION).write_text(json.dumps(description))
    before, after = (read_parameters(path, open_weights(path).config) for path in (folder, made))
    assert all((before[name] == after[name]).all() for name in before)


REFUSED = [
    (
        {f"{QUERY}.weight": "W4A4_DYNAMIC"},
        {},
        f"{QUERY}.weight: type 'W4A4_DYNAMIC' is not implemented; expected one of FLOAT",
    ),
    (
        {f"{QUERY}.weight": "W8A8_DYNAMIC"},
        {},
        f"{QUERY}.weight is W8A8_DYNAMIC in groups of 32, expected a scale of an output",
    ),
    ({"kv_cache_type": "KV4"}, {}, "kv_cache_type 'KV4' is not implemented; expected C8"),
    (
        {"kv_cache_type": "C8"},
        {},
        "self_attn.k_proj.kv_cache_scale is missing; keys and values in int8 have scales in every layer",
    ),
    ({f"{QUERY}.weigt": "FLOAT"}, {}, f"unknown key '{QUERY}.weigt': neither a tensor"),
    ({f"{QUERY}.weight": None}, {}, f"{QUERY}.weight has no type (1 such tensors)"),
    ({"group_size": 64}, {}, "group_size is 64, model.layers.0"),
    ({"group_size": "32"}, {}, "group_size: found '32', expected a whole number"),
    ({"group_size": -1}, {}, "group_size: found -1, expected a whole number"),
    ({}, {f"{QUERY}.weight_offset": None}, f"{QUERY}.weight_offset has the type 'W8A16', but the files have no such"),
    ({f"{QUERY}.weight": "FLOAT"}, {}, "is W8A16, but there is no such weight beside it"),
    ({}, {f"{QUERY}.weight_scale": None}, f"{QUERY}.weight_scale"),
    ({}, {f"{QUERY}.weight": np.zeros((64, 64), np.float32)}, f"{QUERY}.weight is F32 [64, 64], expected I8"),
    (
        {},
        {f"{QUERY}.weight_scale": np.ones((64, 3), np.float32)},
        "weight_scale has shape [64, 3], expected [64",
    ),
    ({}, {f"{QUERY}.weight_offset": np.ones((64, 1), np.float32)}, "weight_offset has shape [64, 1]"),
]


@pytest.mark.parametrize("types, tensors, message", REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_what_is_not_implemented_is_refused_by_name(types, tensors, message, folder, tmp_path):
    made = copied(folder, tmp_path / "made")
    description = {**json.loads((made / DESCRIPTION).read_text()), **types}
    (made / DESCRIPTION).write_text(json.dumps({key: kind for key, kind in description.items() if kind is not None}))
    stored = {**load_file(made / WEIGHTS), **tensors}
    save_file({name: values for name, values in stored.items() if values is not None}, made / WEIGHTS)
    with pytest.raises(UserError) as error:
        open_weights(made)
    assert message in str(error.value), str(error.value)


def test_groups_without_such_scales_are_refused(hf_folder, tmp_path):
    _, _, folder = hf_folder("llama", layers=1, **WIDE["llama"])
    mindcoder.quantize(folder, tmp_path / "q", method="w8a16", progress=False)
    description = json.loads((tmp_path / "q" / DESCRIPTION).read_text())
    (tmp_path / "q" / DESCRIPTION).write_text(json.dumps({**description, "group_size": 32}))
    with pytest.raises(UserError, match="group_size is 32, but every module has one scale for each output"):
        open_weights(tmp_path / "q")


def test_two_descriptions_are_refused(folder, tmp_path):
    made = copied(folder, tmp_path / "made")
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "awq"}}))
    with pytest.raises(UserError, match="twice: in quant_model_description.json, and in quantization_config of config"):
        open_weights(made)


def test_every_verb_refuses_with_one_line(folder, tmp_path):
    made = copied(folder, tmp_path / "made")
    (made / WEIGHTS).unlink()
    for words in (["inspect", made], ["convert", made, tmp_path / "out"], ["chat", made], ["serve", made]):
        done = verb(*words)
        assert done.returncode == 2 and "holds quant_model_description.json, but neither" in done.stderr, words
        assert done.stderr.strip().count("\n") == 0, done.stderr
