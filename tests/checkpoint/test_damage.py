"""Damaged and hostile files beside and in weights: always one line that names the file, never a stack trace."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from families import random_model, sentencepiece_model, to_bin
from safetensors.numpy import save_file

from mindcoder.checkpoint.convert import ConvertRequest, convert
from mindcoder.checkpoint.weights import open_adapter, open_weights
from mindcoder.errors import UserError
from mindcoder.parallel_layout import ParallelLayout
from mindcoder.tokenizer import load_tokenizer

LARGE = 80 << 20  # bytes of a sparse file, above every limit for text


def run(source, target, **options):
    convert(ConvertRequest(str(source), target, show_progress=False, **options))


@pytest.fixture(scope="module")
def intact(tmp_path_factory, tokenizer_folder):
    """One whole folder of every kind."""
    import peft

    root = tmp_path_factory.mktemp("whole")
    model = random_model("llama")
    model.save_pretrained(root / "hf")
    model.save_pretrained(root / "shards", max_shard_size="60KB")
    model.save_pretrained(root / "bin")
    to_bin(root / "bin")
    run(root / "hf", root / "own")
    run(root / "hf", root / "tree", to="ckpt", layout=ParallelLayout(tensor=2))
    (root / "ckpt").mkdir()
    run(root / "hf", root / "ckpt" / "a.ckpt")
    shutil.copy(root / "hf" / "config.json", root / "ckpt" / "config.json")
    settings = peft.LoraConfig(r=4, target_modules=["q_proj", "up_proj"], rank_pattern={"up_proj": 2})
    adapted = peft.get_peft_model(random_model("llama"), settings)
    adapted.peft_config["default"].base_model_name_or_path = str(root / "hf")
    adapted.save_pretrained(root / "peft")
    shutil.copytree(tokenizer_folder, root / "tokenizer")
    for name, values in (("special_tokens_map.json", {"eos_token": "<|endoftext|>"}), ("added_tokens.json", {})):
        (root / "tokenizer" / name).write_text(json.dumps(values))
    (root / "vocab").mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(tokenizer_folder / name, root / "vocab" / name)
    (root / "sentencepiece").mkdir()
    (root / "sentencepiece" / "tokenizer.model").write_bytes(sentencepiece_model())
    return root


def read(folder: Path) -> None:
    """What the verbs do with it."""
    if folder.name in ("tokenizer", "vocab", "sentencepiece"):
        load_tokenizer(folder)
    else:
        open_weights(folder).parameters()


def copy_of(folder: Path, name: str, tmp_path: Path) -> tuple[Path, Path]:
    """A folder of links to a whole one, and the path of the file that is to be damaged, which is absent."""
    target = tmp_path / folder.name
    shutil.copytree(folder, target, copy_function=os.symlink)
    (target / name).unlink()
    return target, target / name


def refused(folder: Path, file: Path) -> str:
    with pytest.raises(UserError) as error:
        read(folder)
    message = str(error.value)
    assert file.name in message and "\n" not in message and len(message) < 1000, message
    return message


JSON_FILES = [
    ("hf", "config.json"),
    ("ckpt", "config.json"),
    ("shards", "model.safetensors.index.json"),
    ("own", "architecture.json"),
    ("own", "huggingface_config.json"),
    ("tree", "layout.json"),
    ("peft", "adapter_config.json"),
    ("tokenizer", "tokenizer.json"),
    ("tokenizer", "tokenizer_config.json"),
    ("tokenizer", "special_tokens_map.json"),
    ("tokenizer", "added_tokens.json"),
    ("vocab", "vocab.json"),
]
OTHER_FILES = [
    ("hf", "model.safetensors"),
    ("bin", "pytorch_model.bin"),
    ("own", "model.safetensors"),
    ("ckpt", "a.ckpt"),
    ("tree", "rank_1/checkpoint_1.ckpt"),
    ("peft", "adapter_model.safetensors"),
    ("sentencepiece", "tokenizer.model"),
]
CONTENTS = {
    "empty": b"",
    "html": b"<!DOCTYPE html><html>rate limited</html>",
    "zeros": bytes(4096),
    "noise": np.random.default_rng(0).bytes(4096),
    "latin-1": '{"a": "\u00e9"}'.encode("latin-1"),
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "list": b"[1, 2]",
    "number": b"7",
    "text": b'"a"',
    "null": b"null",
    "deep": b"[" * 100_000,
    "deep object": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "twice": b'{"a": 1, "a": 2}',
    "NaN": b'{"a": NaN}',
    "overflow": b'{"a": 1e999}',
    "long number": b'{"a": ' + b"9" * 5_000 + b"}",
    "unfinished": b'{"a": [1,',
    "null byte": b'{"a": "\x00"}',
}
BINARY = ("empty", "html", "zeros", "noise", "deep", "list")


@pytest.mark.parametrize("kind, name", JSON_FILES + OTHER_FILES)
def test_other_content(kind, name, intact, tmp_path):
    folder, file = copy_of(intact / kind, name, tmp_path)
    contents = CONTENTS if name.endswith(".json") else {kind: CONTENTS[kind] for kind in BINARY}
    for content in contents.values():
        file.write_bytes(content)
        if content in (CONTENTS["NaN"], CONTENTS["overflow"]) and name == "tokenizer.json":
            continue
        refused(folder, file)


@pytest.mark.parametrize("kind, name", [*JSON_FILES, *OTHER_FILES, ("vocab", "merges.txt")])
def test_no_file_where_one_is_expected(kind, name, intact, tmp_path):
    folder, file = copy_of(intact / kind, name, tmp_path)
    file.mkdir()
    assert "is a folder, a file is expected" in refused(folder, file)
    file.rmdir()
    file.symlink_to(tmp_path / "nowhere")
    assert f"is a link to {tmp_path / 'nowhere'}, which does not exist" in refused(folder, file)
    file.unlink()
    file.symlink_to(file.name)
    refused(folder, file)
    file.unlink()
    os.mkfifo(file)
    assert "is not a regular file" in refused(folder, file)
    file.unlink()
    if name.endswith((".json", ".txt", ".model")):
        with open(file, "wb") as stream:
            stream.truncate(LARGE)
        refused(folder, file)


@pytest.mark.parametrize("kind, name", [*OTHER_FILES, ("tokenizer", "tokenizer.json"), ("vocab", "vocab.json")])
def test_cut_short(kind, name, intact, tmp_path):
    whole = (intact / kind / name).read_bytes()
    folder, file = copy_of(intact / kind, name, tmp_path)
    for share in (0.01, 0.3, 0.7, 0.99):
        file.write_bytes(whole[: int(len(whole) * share)])
        refused(folder, file)


@pytest.mark.parametrize("kind, name", [*OTHER_FILES, ("tokenizer", "tokenizer.json")])
def test_changed_bytes_are_refused_or_harmless(kind, name, intact, tmp_path):
    """Random bytes at random places, mostly where the description of the tensors is."""
    whole = (intact / kind / name).read_bytes()
    folder, file = copy_of(intact / kind, name, tmp_path)
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            end = len(whole) if rng.random() < 0.3 else min(len(whole), 3000)
            damaged[rng.integers(0, end)] = rng.integers(0, 256)
        file.write_bytes(damaged)
        try:
            read(folder)
        except UserError as error:
            assert "\n" not in str(error)


def test_a_header_that_lies(intact, tmp_path):
    folder, file = copy_of(intact / "hf", "model.safetensors", tmp_path)
    whole = (intact / "hf" / "model.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    name = "model.norm.weight"
    for change, expected in (
        ({"dtype": "F8_E4M3"}, "is not a valid safetensors file"),
        ({"dtype": "F64"}, "is not a valid safetensors file"),
        ({"dtype": "Q4"}, "is not a valid safetensors file"),
        ({"shape": [2**40, 48]}, "is not a valid safetensors file"),
        ({"shape": [-48]}, "is not a valid safetensors file"),
        ({"shape": [48, 1]}, r"model.norm|final_norm.weight \[48, 1\] instead of \[48\]"),
        ({"data_offsets": [0, 2**62]}, "is not a valid safetensors file"),
        ({"data_offsets": [0, 192]}, "is not a valid safetensors file"),
        ({"shape": [[48]]}, "is not a valid safetensors file"),
    ):
        text = json.dumps({**header, name: {**header[name], **change}}).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + data)
        with pytest.raises(UserError, match=expected):
            read(folder)
    for claimed in (2**63 - 1, 10**9, 0, 5):
        file.write_bytes(claimed.to_bytes(8, "little") + whole[8:])
        assert "is not a valid safetensors file" in refused(folder, file)


@pytest.mark.parametrize("values", [
    {"weight_map": []}, {"weight_map": {}}, {"weight_map": {"a": 5}}, {"weight_map": {"a": "../../etc/passwd"}},
    {"weight_map": {"a": ".."}}, {"weight_map": {"a": ""}}, {"weight_map": "model"}, {"metadata": {}},
    {"weight_map": {"model.norm.weight": "none.safetensors"}},
])  # fmt: skip
def test_an_index_that_lies(values, intact, tmp_path):
    folder, file = copy_of(intact / "shards", "model.safetensors.index.json", tmp_path)
    file.write_text(json.dumps(values))
    refused(folder, file)


def changed(intact, kind, name, tmp_path, change):
    folder, file = copy_of(intact / kind, name, tmp_path)
    values = json.loads((intact / kind / name).read_text())
    change(values)
    file.write_text(json.dumps(values))
    return folder, file


@pytest.mark.parametrize("change, expected", [
    ({"r": 0}, "r: expected a whole number from 1"), ({"r": None}, "r: expected"), ({"r": -4}, "r: expected"),
    ({"r": True}, "r: expected"), ({"r": 4.0}, "r: expected"), ({"r": 10**30}, "r: expected"),
    ({"r": 8}, r"lora_A and lora_B are \[4, 48\] and \[48, 4\], expected \[8, in\] and \[out, 8\]"),
    ({"lora_alpha": None}, "lora_alpha: expected a number, found null"), ({"lora_alpha": "8"}, "lora_alpha: expected"),
    ({"lora_alpha": [8]}, "lora_alpha: expected"), ({"use_rslora": "yes"}, "use_rslora: expected true or false"),
    ({"use_dora": 1}, "use_dora: expected true or false"), ({"use_dora": True}, "lacks its magnitudes"),
    ({"alpha_pattern": [1]}, "alpha_pattern: expected an object"), ({"alpha_pattern": {"q": None}}, "alpha_pattern.q"),
    ({"rank_pattern": {"up_proj": 0}}, "rank_pattern.up_proj"), ({"rank_pattern": {"(": 2}}, "not a regular exp"),
    ({"lora_alpha": 1e308}, r"lora_alpha: .* at most 1e\+06"), ({"lora_alpha": 10**400}, "lora_alpha: expected"),
    ({"rank_pattern": {".*" * 20 + "z": 4}}, "too intricate"), ({"init_lora_weights": "OLoRA"}, "a changed base model"),
    ({"rank_pattern": {"(a+)+b": 2}}, "too intricate"), ({"peft_type": "LOHA"}, "peft_type 'LOHA': only LORA"),
    ({"peft_type": 5}, "peft_type: expected a text"), ({"bias": "all"}, "bias 'all' is not implemented"),
    ({"base_model_name_or_path": 5}, "base_model_name_or_path: expected a text"),
    ({"fan_in_fan_out": True}, "fan_in_fan_out true is not implemented"),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save"), ({"layer_replication": [[0, 2]]}, "layer_replication"),
    ({"target_parameters": ["a"]}, "target_parameters"), ({"init_lora_weights": "pissa_niter_4"}, "changed base model"),
    ({"use_new_thing": True}, "unknown setting 'use_new_thing'"),
    ({"lora_dropout": 5}, "lora_dropout: expected a number from 0 to 1, found 5"), ({"lora_dropout": ""}, "found ''"),
    ({"lora_dropout": True}, "lora_dropout"), ({"lora_dropout": None}, "lora_dropout"),
    ({"target_modules": [-1]}, r"target_modules: expected a module's name or a list of names, found \[-1\]"),
    ({"target_modules": [[]]}, "target_modules"), ({"target_modules": ""}, "target_modules"),
    ({"target_modules": {"q_proj": 1}}, "target_modules"), ({"exclude_modules": 5}, "exclude_modules: expec"),
    ({"layers_pattern": [None]}, "layers_pattern: expected"), ({"layers_to_transform": [-1]}, "layers_to_transform: e"),
    ({"layers_to_transform": "all"}, "layers_to_transform: expected the number of a layer"),
    ({"task_type": "SEQ_CLS"}, "task_type: expected CAUSAL_LM, found 'SEQ_CLS'"), ({"task_type": []}, "task_type"),
    ({"base_model_name_or_path": "bigcode/starcoder"}, "hf download bigcode/starcoder --local-dir starcoder"),
])  # fmt: skip
def test_settings_of_an_adapter(change, expected, intact, tmp_path):
    folder, file = changed(intact, "peft", "adapter_config.json", tmp_path, lambda values: values.update(change))
    with pytest.raises(UserError, match=expected) as error:
        read(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("change", [
    {"lora_dropout": 0}, {"lora_dropout": 1.0}, {"target_modules": None}, {"target_modules": "all-linear"},
    {"target_modules": ["q_proj"], "layers_to_transform": 1, "layers_pattern": "layers"}, {"exclude_modules": []},
    {"layers_to_transform": [0, 1], "layers_pattern": ["layers"]}, {"task_type": None}, {"task_type": "CAUSAL_LM"},
])  # fmt: skip
def test_settings_as_peft_writes_them(change, intact, tmp_path):
    folder, _ = changed(intact, "peft", "adapter_config.json", tmp_path, lambda values: values.update(change))
    assert open_weights(folder).parameters()


def test_matrices_of_an_adapter(intact, tmp_path):
    from safetensors.numpy import load_file

    folder, file = copy_of(intact / "peft", "adapter_model.safetensors", tmp_path)
    whole = load_file(intact / "peft" / "adapter_model.safetensors")
    first = next(name for name in whole if "q_proj.lora_A" in name)
    config = open_weights(intact / "hf").config
    for change, expected in (
        ({first: np.zeros((0, 48), np.float32)}, "expected"),
        ({first: np.zeros(48, np.float32)}, "expected"),
        ({first: np.zeros((4, 48), np.int32)}, "has dtype I32"),
        ({first: np.zeros((4, 47), np.float32)}, "does not fit its base model"),
        ({"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight": whole[first]}, "has no place in"),
        ({"x": whole[first]}, "holds x, which is not a LoRA matrix"),
        ({first.replace(".weight", ".default.weight"): whole[first]}, "twice"),
    ):
        save_file({**whole, **change}, file)
        with pytest.raises(UserError, match=expected):
            open_adapter(folder, config)
    save_file({name: value for name, value in whole.items() if name != first}, file)
    with pytest.raises(UserError, match="has no place in"):
        open_adapter(folder, config)


@pytest.mark.parametrize("name, change", [
    ("tokenizer_config.json", {"eos_token": 5}), ("tokenizer_config.json", {"eos_token": {"content": None}}),
    ("tokenizer_config.json", {"eos_token": "<never>"}), ("tokenizer_config.json", {"tokenizer_class": ["Llama"]}),
    ("tokenizer_config.json", {"added_tokens_decoder": []}),
    ("tokenizer_config.json", {"added_tokens_decoder": {"x": {}}}),
    ("tokenizer_config.json", {"added_tokens_decoder": {"5": 3}}), ("tokenizer_config.json", {"pad_token": []}),
    ("tokenizer_config.json", {"added_tokens_decoder": {"99999999": {"content": "a"}}}),
    ("tokenizer_config.json", {"add_bos_token": "yes"}), ("special_tokens_map.json", {"eos_token": {"content": 1}}),
    ("added_tokens.json", {"<x>": "700"}), ("added_tokens.json", {"<x>": -1}), ("added_tokens.json", {"<x>": 10**20}),
])  # fmt: skip
def test_companions_of_a_tokenizer(name, change, intact, tmp_path):
    def apply(values):
        if name == "special_tokens_map.json":
            (tmp_path / "tokenizer" / "tokenizer_config.json").unlink()
        values.update(change)

    folder, file = changed(intact, "tokenizer", name, tmp_path, apply)
    with pytest.raises(UserError) as error:
        read(folder)
    message = str(error.value)
    assert message.startswith(str(folder)) and "\n" not in message, message


@pytest.mark.parametrize("change", [
    {"a": -1}, {"a": 2**40}, {"a": 1.5}, {"a": True}, {"a": "5"}, {"a": None}, {"a": 0}, {"a": 10**7},
])  # fmt: skip
def test_ids_of_a_vocabulary(change, intact, tmp_path):
    folder, file = changed(intact, "vocab", "vocab.json", tmp_path, lambda values: values.update({"zzz": change["a"]}))
    assert "zzz" in refused(folder, file) or "an id as large" in refused(folder, file)


def test_merges_that_belong_to_no_vocabulary(intact, tmp_path):
    folder, file = copy_of(intact / "vocab", "merges.txt", tmp_path)
    for content in (b"a b c\n", b"never\n", b"\xff\xfe", "é\u20ac zz".encode(), b"a" * 10_000):
        file.write_bytes(content)
        refused(folder, file)


def test_torch_files_that_are_more_or_less_than_tensors(intact, tmp_path):
    import zipfile

    folder, file = copy_of(intact / "bin", "pytorch_model.bin", tmp_path)
    for state in (
        [1, 2],
        {1: torch.ones(2)},
        {"w": 5},
        {"w": torch.ones(2).to_sparse()},
        {"w": torch.ones(1).expand(2**40)},
        {"w": torch.ones(2, dtype=torch.complex64)},
        {"state_dict": {"w": "x"}},
        {"w": print},
    ):
        torch.save(state, file)
        refused(folder, file)
    torch.save({"w": torch.ones(2)}, file)
    with zipfile.ZipFile(file) as whole, zipfile.ZipFile(tmp_path / "packed", "w", zipfile.ZIP_DEFLATED) as packed:
        for item in whole.infolist():
            packed.writestr(item.filename, whole.read(item))
    shutil.copy(tmp_path / "packed", file)
    assert "is compressed" in refused(folder, file)
