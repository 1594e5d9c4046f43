"""What convert, merge-lora and quantize refuse about their target, and numbers that it has no room for."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from command import mindcoder
from safetensors.numpy import load_file, save_file

import mindcoder as api
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError

UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def source(hf_folder):
    """A Llama of one layer."""
    return hf_folder("llama", layers=1, hidden_size=64, intermediate_size=64)[2]


@pytest.fixture
def with_number(source, tmp_path):
    """``with_number(value, dtype)``: the source with one weight of this value."""

    def make(value: float, dtype: type = np.float32):
        tensors = {name: item.astype(dtype) for name, item in load_file(source / "model.safetensors").items()}
        tensors[UP][3, 5] = value
        folder = tmp_path / "large"
        folder.mkdir()
        for file in source.iterdir():
            if file.name != "model.safetensors":
                (folder / file.name).write_bytes(file.read_bytes())
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return folder

    return make


@pytest.mark.parametrize("value", [70000.0, -1e30])
@pytest.mark.parametrize(
    "target, options",
    [
        ("half", {"dtype": "float16"}),
        ("half", {"dtype": "float16", "to": "huggingface"}),
        ("half.bin", {"dtype": "float16"}),
        ("half.gguf", {"gguf_type": "f16"}),
        ("half.gguf", {"dtype": "float16"}),
    ],
)
def test_numbers_beyond_float16_are_refused_by_name(value, target, options, with_number, tmp_path):
    folder = with_number(value)
    with pytest.raises(UserError) as error:
        api.convert(folder, tmp_path / target, progress=False, **options)
    assert f"found {value:.6g}, expected at most 65504, the largest number of F16" in str(error.value)
    assert any(name in str(error.value) for name in (UP, "layers.0.mlp.up.weight", "blk.0.ffn_up.weight"))
    assert [path.name for path in tmp_path.iterdir()] == ["large"]
    api.convert(folder, tmp_path / "kept", dtype="bfloat16", progress=False)


def test_the_largest_number_and_infinities_that_are_there_stay(with_number, tmp_path):
    api.convert(with_number(65504.0), tmp_path / "half", to="huggingface", dtype="float16", progress=False)
    assert load_file(tmp_path / "half" / "model.safetensors")[UP][3, 5] == 65504
    half = tmp_path / "half"
    tensors = load_file(half / "model.safetensors")
    tensors[UP][3, 5] = np.inf
    save_file(tensors, half / "model.safetensors", {"format": "pt"})
    api.convert(half, tmp_path / "single", to="huggingface", dtype="float32", progress=False)
    api.convert(tmp_path / "single", tmp_path / "again", to="huggingface", dtype="float16", progress=False)
    assert np.isinf(load_file(tmp_path / "again" / "model.safetensors")[UP][3, 5])


def test_numbers_beyond_bfloat16_are_refused(with_number, tmp_path):
    with pytest.raises(UserError, match=r"found 3.4e\+38, expected at most 3.3895e\+38, the largest number of BF16"):
        api.convert(with_number(3.4e38), tmp_path / "half", dtype="bfloat16", progress=False)


@pytest.mark.parametrize(
    "words, message",
    [
        (["x.gguf", "--to", "huggingface"], "x.gguf: is a file; --to huggingface writes a folder"),
        (["x.bin", "--to", "huggingface"], "x.bin: is a file; --to huggingface writes a folder"),
        (["x.gguf", "--max_shard_size", "1GB"], "--max_shard_size is for a folder of safetensors, a .gguf is one file"),
        (["x.ckpt", "--max_shard_size", "1GB"], "--max_shard_size is for a folder of safetensors, a .ckpt is one file"),
        (["x", "--max_shard_size", "1GB", "--model_parallel", "2"], "of safetensors, each rank has one file"),
        (["file/x"], "file is a file, not a folder"),
        (["file/deep/x.gguf"], "file is a file, not a folder"),
    ],
)
def test_targets_that_do_not_fit_are_one_line(words, message, source, tmp_path):
    (tmp_path / "file").write_text("text")
    done = mindcoder("convert", source, tmp_path / words[0], *words[1:])
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_suffix_in_capitals_is_the_same(source, tmp_path):
    done = mindcoder("convert", source, tmp_path / "X.GGUF", "--type", "q8_0")
    assert done.returncode == 0 and (tmp_path / "X.GGUF").is_file(), done.stderr
    assert open_weights(tmp_path / "X.GGUF").kind == "gguf"
    (tmp_path / "X.Modelfile").unlink()
    assert open_weights(tmp_path).kind == "gguf"  # the only one of a folder


@pytest.mark.parametrize("name", ["x.gguf", "X.GGUF", "x.safetensors"])
def test_quantize_writes_folders(name, source, tmp_path):
    done = mindcoder("quantize", source, tmp_path / name, "--method", "w8a16")
    assert done.returncode == 2 and "is the name of a file; quantize writes a folder" in done.stderr
    assert (f"convert SRC {tmp_path / name} --type q8_0 or q4_k_m" in done.stderr) is name.lower().endswith(".gguf")
    assert not list(tmp_path.iterdir())


def test_commas_within_an_expression_do_not_divide_it(source, tmp_path):
    done = mindcoder(
        "quantize", source, tmp_path / "q", "--method", "w8a16", "--fallback", r".*\.[kv,]_proj,.*\.\w{1,3}_proj"
    )
    assert done.returncode == 2 and "no linear layer is left" not in done.stderr or done.returncode == 0
    report = json.loads((tmp_path / "q" / "quantization_report.json").read_text())
    kept = {item["module"].rpartition(".")[2]: item["reason"] for item in report["kept"]}
    assert kept["k_proj"] == r"--fallback .*\.[kv,]_proj" and kept["up_proj"] == r"--fallback .*\.\w{1,3}_proj"
    assert "gate_proj" not in kept and "down_proj" not in kept


def test_what_is_dequantized_is_said_for_adapters_and_gguf_too(source, tmp_path):
    import peft
    from transformers import AutoModelForCausalLM

    api.quantize(source, tmp_path / "int8", method="w8a16", progress=False)
    model = AutoModelForCausalLM.from_pretrained(source)
    peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "lora")
    for target, kind in (("x.gguf", "f32"), ("merged.gguf", "f32")):
        more = (
            ["merge-lora", tmp_path / "int8", tmp_path / "lora"]
            if "merged" in target
            else ["convert", tmp_path / "int8"]
        )
        done = mindcoder(*more, tmp_path / target)
        assert done.returncode == 0, done.stderr
        said = f"the adapter is merged into its values in floating point and the sum rounded to {kind}"
        assert (said if "merged" in target else f"W8A16, converted to {kind}") in done.stderr
    done = mindcoder("merge-lora", tmp_path / "int8", tmp_path / "lora", tmp_path / "merged", "--dtype", "float16")
    assert done.returncode == 0 and "and the sum rounded to float16 once" in done.stderr, done.stderr
    assert {str(item.dtype) for item in load_file(tmp_path / "merged" / "model.safetensors").values()} == {"float16"}


def test_fewer_rows_than_the_tokenizer_has_tokens_are_remarked_on(with_number, tokenizer_folder, tmp_path, caplog):
    folder = with_number(1.0)
    api.convert(folder, tmp_path / "bare", vocab_size=10, progress=False)
    assert not [text for text in caplog.messages if "tokenizer" in text]
    shutil.copy(tokenizer_folder / "tokenizer.json", folder)
    api.convert(folder, tmp_path / "few", vocab_size=10, progress=False)
    assert [text for text in caplog.messages if text.startswith("vocab_size: 10 rows are fewer than the tokenizer's")]
