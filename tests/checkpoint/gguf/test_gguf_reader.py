"""Files that the ``gguf`` package has written: the same network, the same parameters, whatever they are stored as."""

from __future__ import annotations

import json

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf_reference import random_tensors, small_config, write_reference
from safetensors.numpy import save_file

from mindcoder.checkpoint.convert import ConvertRequest, convert
from mindcoder.checkpoint.report import report
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError
from mindcoder.families.rope_scaling import RopeScaling
from mindcoder.families.rotary_frequencies import llama3_factors, llama3_scaling

LINEAR = {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
GRANITE = {
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.015625,
    "residual_multiplier": 0.25,
    "logits_scaling": 8.0,
}
FAMILIES = [
    pytest.param("llama", {}, id="llama"),
    pytest.param(
        "llama", {"head_dim": 32, "tie_word_embeddings": True, "attention_bias": True, **LINEAR}, id="llama with all"
    ),
    pytest.param("qwen2", {"rms_norm_eps": 1e-5}, id="qwen2"),
    pytest.param("starcoder2", {}, id="starcoder2"),
    pytest.param("starcoder2", {"use_bias": False, "tie_word_embeddings": False}, id="starcoder2 without biases"),
    pytest.param("gpt_bigcode", {}, id="gpt_bigcode"),
    pytest.param("qwen3", {"head_dim": 32}, id="qwen3"),
    pytest.param("granite", {**GRANITE, "tie_word_embeddings": True}, id="granite"),
    pytest.param("smollm3", {"num_hidden_layers": 4}, id="smollm3"),
    pytest.param("phi3", {"partial_rotary_factor": 0.5}, id="phi3"),
]
KINDS = [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1]


def same(first, second):
    assert set(first) == set(second)
    for name, plan in first.items():
        expected, found = (item.with_dtype("F32").read() for item in (plan, second[name]))
        assert np.array_equal(expected, found), name


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("family, overrides", FAMILIES)
def test_parameters_are_those_of_the_package(family, overrides, kind, tmp_path):
    config = small_config(family, **overrides)
    decoded = write_reference(tmp_path / "a.gguf", config, random_tensors(family, config), kind)
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
    save_file(decoded, tmp_path / "hf" / "model.safetensors")
    expected, found = open_weights(tmp_path / "hf"), open_weights(tmp_path / "a.gguf")
    assert found.config.architecture() == expected.config.architecture()
    same(expected.parameters(), found.parameters(expected.config))
    convert(ConvertRequest(str(tmp_path / "a.gguf"), tmp_path / "back", show_progress=False))
    same(expected.parameters(), open_weights(tmp_path / "back").parameters())


def test_parts_are_decoded_without_the_rest(tmp_path):
    config = small_config("llama")
    write_reference(tmp_path / "a.gguf", config, random_tensors("llama", config), Kind.Q5_1)
    tensor = open_weights(tmp_path / "a.gguf").tensors["blk.1.ffn_down.weight"]
    whole = tensor.read()
    assert np.array_equal(tensor.read_part(0, 10, 33), whole[10:33])
    assert np.array_equal(tensor.read_part(1, 70, 90), whole[:, 70:90])
    assert np.array_equal(np.concatenate(list(tensor.chunks())), whole.reshape(-1))
    assert tensor.read_part(0, 5, 5).shape == (0, 256)


def test_folder_with_one_file_and_with_two(tmp_path):
    config = small_config("llama")
    for name in ("a", "b"):
        write_reference(tmp_path / f"{name}.gguf", config, random_tensors("llama", config))
        if name == "a":
            found = report(open_weights(tmp_path))
            assert found.kind == "gguf" and found.dtypes == {"F32": 21} and list(found.files) == ["a.gguf"]
    with pytest.raises(UserError, match="holds 2 GGUF files: give one of a.gguf, b.gguf"):
        open_weights(tmp_path)


def test_inspect_says_how_the_tensors_are_stored(tmp_path):
    config = small_config("llama")
    write_reference(tmp_path / "a.gguf", config, random_tensors("llama", config), Kind.Q4_0)
    assert "stored as       Q4_0 16 tensors, F32 5 tensors" in report(open_weights(tmp_path / "a.gguf")).lines()


@pytest.mark.parametrize(
    "metadata, message",
    [
        (
            {"llama.rope.scaling.type": "yarn"},
            "llama.rope.scaling.type 'yarn' is not implemented; expected none or lin",
        ),
        ({"llama.expert_count": 8}, "llama.expert_count 8 is not implemented"),
        ({"llama.logit_scale": 0.5}, "llama.logit_scale: whether this key changes the model is not known"),
        ({"llama.vocab_size": 299}, "llama.vocab_size 299 is not implemented; expected 300"),
        ({"split.count": 3}, "is one of 3 parts: join them"),
        ({"adapter.type": "lora"}, "'adapter.type' belongs to another kind of file"),
        ({"general.type": "adapter"}, "general.type 'adapter' is not read"),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.precompiled_charsmap": "x"}, "precompiled_charsmap"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_key_that_changes_the_model_is_refused_by_name(metadata, message, tmp_path):
    config = small_config("llama")
    write_reference(tmp_path / "a.gguf", config, random_tensors("llama", config), metadata=metadata)
    with pytest.raises(UserError, match=message) as error:
        open_weights(tmp_path / "a.gguf")
    assert str(error.value).startswith(str(tmp_path / "a.gguf"))


def test_notes_of_tools_are_not_refused(tmp_path):
    config = small_config("llama")
    notes = {"quantize.imatrix.entries_count": 3, "general.license": "mit", "somebody.url": "https://example.org"}
    harmless = {"llama.rope.scaling.finetuned": True, "llama.expert_count": 0, "llama.attention.causal": True}
    write_reference(tmp_path / "a.gguf", config, random_tensors("llama", config), metadata=notes | harmless)
    assert open_weights(tmp_path / "a.gguf").config.num_layers == 2


def test_unknown_architecture_and_unknown_tensor_are_refused(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "gemma3")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(
        UserError, match="general.architecture 'gemma3' is not implemented; expected .*starcoder, .*llama"
    ):
        open_weights(tmp_path / "a.gguf")
    config = small_config("llama")
    tensors = random_tensors("llama", config)
    tensors["model.layers.0.self_attn.q_norm.weight"] = np.ones(16, np.float32)
    write_reference(tmp_path / "b.gguf", config, tensors)
    with pytest.raises(UserError, match="1 unexpected: model.layers.0.self_attn.q_norm.weight"):
        open_weights(tmp_path / "b.gguf").parameters()
    del tensors["model.layers.0.self_attn.q_norm.weight"], tensors["model.layers.1.mlp.up_proj.weight"]
    write_reference(tmp_path / "c.gguf", config, tensors)
    with pytest.raises(UserError, match="1 missing: blk.1.ffn_up.weight"):
        open_weights(tmp_path / "c.gguf").parameters()


@pytest.mark.parametrize("head_dim, theta", [(64, 5e5), (128, 5e5), (16, 1e4)])
def test_llama3_scaling_is_found_from_its_factors(head_dim, theta):
    scaling = RopeScaling("llama3", 32.0, 8192, 1.0, 4.0)
    factors = [float(np.float32(factor)) for factor in llama3_factors(scaling, theta, head_dim)]
    found = llama3_scaling(factors, theta)
    assert found is not None and llama3_factors(found, theta, head_dim) == llama3_factors(scaling, theta, head_dim)
    with pytest.raises(ValueError, match=r"rope_freqs\.weight: these factors are not those of Llama 3"):
        llama3_scaling([factor * (1 + index % 2) for index, factor in enumerate(factors)], theta)
