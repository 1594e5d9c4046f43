"""Files that `convert` writes, read by the ``gguf`` package: which tensors in which type, and what they say."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter

import gguf
import numpy as np
import pytest
from gguf_reference import random_tensors, small_config
from safetensors.numpy import load_file, save_file

from mindcoder.checkpoint.convert import ConvertRequest, convert
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError
from mindcoder.parallel_layout import ParallelLayout

FAMILIES = ("llama", "qwen2", "starcoder2", "gpt_bigcode", "qwen3", "phi3")
LONGROPE = {"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}}
TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_k_m")


def folder(root, family, seed=0, **overrides):
    """A Hugging Face folder of random weights."""
    config = small_config(family, **overrides)
    root.mkdir()
    (root / "config.json").write_text(json.dumps(config))
    save_file(random_tensors(family, config, seed), root / "model.safetensors")
    return root


def run(source, target, **options):
    return convert(ConvertRequest(str(source), target, show_progress=False, **options))


def decoded(tensor):
    return np.asarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type), np.float32).reshape(-1)


def kinds_of(file):
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(file).tensors}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_package_reads_what_we_read(family, kind, tmp_path):
    source = folder(tmp_path / "hf", family)
    run(source, tmp_path / "a.gguf", gguf_type=kind)
    reader, found = gguf.GGUFReader(tmp_path / "a.gguf"), open_weights(tmp_path / "a.gguf")
    assert found.config.architecture() == open_weights(source).config.architecture()
    for tensor in reader.tensors:
        ours = found.tensors[tensor.name].read()
        if found.tensors[tensor.name].dtype == "BF16":
            ours = (ours.astype(np.uint32) << 16).view(np.float32)
        assert np.array_equal(decoded(tensor), ours.astype(np.float32).reshape(-1)), tensor.name
    worst = {"f32": 0, "f16": 1e-3, "bf16": 8e-3, "q8_0": 8e-3, "q4_0": 0.12, "q4_k_m": 0.1}[kind]
    expected = open_weights(source).parameters()
    for name, plan in found.parameters().items():
        values = expected[name].read()
        error = np.sqrt(np.mean((plan.with_dtype("F32").read() - values) ** 2) / np.mean(values**2))
        assert error <= worst, (name, error)


def test_metadata(tmp_path):
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling["original_max_position_embeddings"] = 8192
    source = folder(tmp_path / "small", "llama", head_dim=32, rope_scaling=scaling, rope_theta=500000.0)
    run(source, tmp_path / "a.gguf", gguf_type="q8_0")
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    values = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert list(values)[0] == "general.architecture"
    assert values == {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "small",
        "general.size_label": "186K",
        "general.file_type": gguf.LlamaFileType.MOSTLY_Q8_0,
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        "llama.vocab_size": 300,
        "llama.context_length": 64,
        "llama.embedding_length": 64,
        "llama.block_count": 2,
        "llama.feed_forward_length": 256,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 32,
        "llama.attention.value_length": 32,
        "llama.attention.layer_norm_rms_epsilon": pytest.approx(1e-6),
        "llama.rope.dimension_count": 32,
        "llama.rope.freq_base": 500000.0,
        "tokenizer.ggml.model": "no_vocab",
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    assert reader.fields["llama.block_count"].types == [gguf.GGUFValueType.UINT32]
    assert reader.fields["llama.rope.freq_base"].types == [gguf.GGUFValueType.FLOAT32]
    assert len(reader.tensors[0].data) == 16 and reader.tensors[0].name == "rope_freqs.weight"
    assert open_weights(tmp_path / "a.gguf").config == open_weights(source).config


def test_mix_of_q4_k_m(tmp_path):
    """Of sixteen layers: the first and the last two, and every third between, have more bits."""
    source = folder(
        tmp_path / "hf", "llama", hidden_size=256, num_hidden_layers=16, intermediate_size=256, num_attention_heads=8
    )
    assert "instead of" not in " ".join(run(source, tmp_path / "a.gguf", gguf_type="q4_k_m").notes)
    found = kinds_of(tmp_path / "a.gguf")
    more = [layer for layer in range(16) if found[f"blk.{layer}.ffn_down.weight"] == "Q6_K"]
    assert more == [0, 1, 4, 7, 10, 13, 14, 15]
    assert more == [layer for layer in range(16) if found[f"blk.{layer}.attn_v.weight"] == "Q6_K"]
    assert found["output.weight"] == "Q6_K" and found["token_embd.weight"] == "Q4_K"
    assert found["blk.5.attn_q.weight"] == found["blk.5.ffn_down.weight"] == "Q4_K"
    assert found["blk.5.attn_norm.weight"] == "F32"
    assert Counter(found.values()) == {"Q4_K": 1 + 16 * 5 + 16, "Q6_K": 17, "F32": 33}


def test_tied_embedding_and_fused_projection_have_more_bits(tmp_path):
    run(folder(tmp_path / "hf", "gpt_bigcode", n_embd=256), tmp_path / "a.gguf", gguf_type="q4_k_m")
    found = kinds_of(tmp_path / "a.gguf")
    assert found["token_embd.weight"] == "Q6_K" and found["blk.0.attn_qkv.weight"] == "Q5_K"
    assert found["position_embd.weight"] == found["blk.0.attn_qkv.bias"] == "F32"


def test_rows_that_are_no_whole_blocks_fall_back_and_it_is_said(tmp_path):
    done = run(folder(tmp_path / "a", "llama"), tmp_path / "a.gguf", gguf_type="q4_k_m")
    assert done.notes[0].startswith(
        "Q5_0 instead of Q4_K, whose blocks are 256 values of a row: token_embd.weight, blk"
    )
    assert kinds_of(tmp_path / "a.gguf")["output.weight"] == "Q8_0"
    odd = folder(tmp_path / "b", "llama", hidden_size=40, num_attention_heads=2)
    done = run(odd, tmp_path / "b.gguf", gguf_type="q8_0")
    assert done.notes[0].startswith("F16 instead of Q8_0, whose blocks are 32 values of a row: token_embd.weight")
    assert kinds_of(tmp_path / "b.gguf")["blk.0.ffn_down.weight"] == "Q8_0"


@pytest.mark.parametrize(
    "family, overrides, message",
    [
        ("gpt_bigcode", {"multi_query": False}, r"one key/value head; this GPT-BigCode is multi-head and has 4"),
        (
            "gpt_bigcode",
            {"activation_function": "gelu"},
            "activation is 'gelu'; every starcoder of GGUF",
        ),
        ("gpt_bigcode", {"scale_attn_weights": False}, "scale_attention is false"),
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling dynamic cannot be expressed"),
        ("qwen2", {"head_dim": 32}, "head_dim is 32; llama.cpp loads such a network with 64/4 only"),
        ("mistral", {"sliding_window": 16}, "sliding_window is 16; every llama of GGUF has null"),
        ("smollm3", {"no_rope_layers": [0, 1]}, r"no_rope_layers are \[0\]; llama.cpp leaves every 4th layer"),
        ("phi3", LONGROPE, "rope_scaling longrope cannot be expressed for this architecture in GGUF"),
        (
            "starcoder2",
            {"use_bias": False},
            "qkv_bias is false; llama.cpp does not load such a network without blk.0.attn_q",
        ),
    ],
    ids=["multi-head", "gelu", "scale", "dynamic", "head", "window", "no-rope", "longrope", "biases"],
)
def test_what_gguf_cannot_express_is_refused_by_name(family, overrides, message, tmp_path):
    source = folder(tmp_path / "hf", family, **overrides)
    with pytest.raises(UserError, match=f"cannot be written as GGUF: .*{message}"):
        run(source, tmp_path / "a.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_names_and_options(tmp_path):
    source = folder(tmp_path / "hf", "llama")
    for target, options, message in (
        ("a", {"to": "gguf"}, "expected a name that ends with .gguf"),
        ("a.gguf", {"to": "mindcoder"}, "is a file; --to mindcoder writes a folder"),
        ("a", {"gguf_type": "q8_0"}, "--type is for a .gguf; other formats take --dtype"),
        ("a.gguf", {"gguf_type": "q2_k"}, "no type 'q2_k'; available: f32, f16, bf16, q8_0, q4_0, q4_k_m"),
        ("a.gguf", {"gguf_type": "f16", "dtype": "float16"}, "--type and --dtype both say"),
        ("a.gguf", {"layout": ParallelLayout(tensor=2)}, "can be split"),
    ):
        with pytest.raises(UserError, match=message):
            run(source, tmp_path / target, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]
    run(source, tmp_path / "a.gguf", dtype="bfloat16")
    assert kinds_of(tmp_path / "a.gguf")["output.weight"] == "BF16"
    with pytest.raises(UserError, match=r"a\.gguf: exists; add --overwrite"):
        run(source, tmp_path / "a.gguf")
    run(source, tmp_path / "a.gguf", overwrite=True)
    assert kinds_of(tmp_path / "a.gguf")["output.weight"] == "F32"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.Modelfile", "a.gguf", "hf"]


@pytest.mark.parametrize("kind", ["q8_0", "q4_0", "q4_k_m"])
@pytest.mark.parametrize("value, message", [(np.nan, "found nan, expected finite"), (3e38, "too large for Q")])
def test_numbers_that_blocks_cannot_hold_are_refused(kind, value, message, tmp_path):
    source = folder(tmp_path / "hf", "llama")
    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][3, 5] = value
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(UserError, match=rf"blk\.0\.ffn_up\.weight: .*{message}"):
        run(source, tmp_path / "a.gguf", gguf_type=kind)
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_gguf_becomes_gguf_of_another_type(tmp_path):
    run(folder(tmp_path / "hf", "llama"), tmp_path / "a.gguf", gguf_type="q8_0")
    run(tmp_path / "a.gguf", tmp_path / "b.gguf", gguf_type="q8_0")
    first, second = (open_weights(tmp_path / f"{name}.gguf").tensors for name in "ab")
    assert all(np.array_equal(tensor.read(), second[name].read()) for name, tensor in first.items())


def test_one_tensor_at_a_time(tmp_path):
    """What is held while a large file is quantized is far below its size."""
    source = folder(tmp_path / "hf", "llama", vocab_size=40000, hidden_size=256, intermediate_size=1024)
    run(source, tmp_path / "f32.gguf")
    size = (tmp_path / "f32.gguf").stat().st_size
    tracemalloc.start()
    run(tmp_path / "f32.gguf", tmp_path / "a.gguf", gguf_type="q8_0")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 80e6 and peak < 60e6, (size, peak)
