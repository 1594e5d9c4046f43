"""Damaged and hostile files at the command line: one line that names the file, exit code 2, nothing left behind.

Every kind of damage meets every kind of file that a verb reads before it computes anything.
"""

from __future__ import annotations

import json
import os
import shutil
import struct

import pytest
from conftest import REPOSITORY

from mindcoder.cli.main import main

TINY = REPOSITORY / "configs" / "wizardcoder" / "tiny_finetune.yaml"
DAMAGE = {
    "empty": b"",
    "zeros": b"\0" * 100,
    "binary": bytes(range(256)) * 4,
    "utf16": '{"a": 1}'.encode("utf-16"),
    "latin1": b'{"a": "\xe9"}',
    "unfinished": b'{"a": ',
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000,
    "list": b"[1]",
    "null": b"null",
    "number": b"1",
    "text": b'"x"',
    "long number": b'{"a": ' + b"9" * 5000 + b"}",
    "escape": b'"\x1b[31m\r\n',
}
damaged = pytest.mark.parametrize("damage", list(DAMAGE))


def refused(capfd, *arguments) -> str:
    """The line that is said; a folder of the file system is not touched by the refusal."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as ended:
        code = ended.code
    said = capfd.readouterr().err
    line = said.strip().splitlines()[-1]
    assert code == 2, said
    assert "Traceback" not in said and "internal error" not in said and "error: " in line, said
    assert len([text for text in said.splitlines() if "error" in text]) == 1 and "\x1b" not in said, said
    return line


@pytest.fixture
def write(tmp_path):
    def file(name: str, content: bytes):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return file


@pytest.fixture
def folder(served_folder, tmp_path):
    """A copy of a Hugging Face folder with one file replaced."""

    def copy(name: str, content: bytes | None):
        path = tmp_path / "model"
        shutil.copytree(served_folder, path)
        if content is None:
            (path / name).unlink()
        else:
            (path / name).write_bytes(content)
        return path

    return copy


@damaged
def test_configurations(damage, write, capfd):
    file = write("run.yaml", DAMAGE[damage])
    if damage == "empty":
        assert main(["plan", "--config", str(file)]) == 0  # every key has a default
    else:
        assert "run.yaml" in refused(capfd, "plan", "--config", file)


@damaged
def test_rank_tables(damage, write, capfd):
    assert "table.json" in refused(
        capfd, "launch", "--rank_table", write("table.json", DAMAGE[damage]), "--command", "true"
    )


@damaged
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_weights(damage, name, folder, capfd):
    assert name in refused(capfd, "inspect", folder(name, DAMAGE[damage]))


@damaged
@pytest.mark.parametrize("name", ["model.ckpt", "pytorch_model.bin"])
def test_single_files_of_weights(damage, name, write, served_folder, capfd):
    shutil.copy(served_folder / "config.json", write("config.json", b""))
    assert name in refused(capfd, "inspect", write(name, DAMAGE[damage]))


@damaged
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "added_tokens.json", "tokenizer.model"])
def test_tokenizers(damage, name, folder, write, tmp_path, capfd):
    records = write("records.jsonl", b'{"instruction": "a", "output": "b"}\n')
    model = folder(name, DAMAGE[damage])
    vocabulary = model / (name if name == "tokenizer.model" else "tokenizer.json")
    out = tmp_path / "out" / "o.mindrecord"
    flags = ["--vocab_file", vocabulary, "--output_file", out, "--seq_length", "64", "--workers", "1"]
    line = refused(capfd, "preprocess", "--input_glob", records, *flags)
    assert name in line and not list(tmp_path.glob("out/*"))


@damaged
@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_vocabularies_and_merges(damage, name, tokenizer_folder, write, tmp_path, capfd):
    files = {file: tokenizer_folder / file for file in ("vocab.json", "merges.txt")}
    files[name] = write(name, DAMAGE[damage])
    if (name, damage) == ("merges.txt", "empty"):
        pytest.skip("a vocabulary of single bytes has no merges")
    records = write("records.jsonl", b'{"instruction": "a", "output": "b"}\n')
    flags = ["--vocab_file", files["vocab.json"], "--merge_file", files["merges.txt"]]
    out = tmp_path / "o.mindrecord"
    line = refused(capfd, "preprocess", "--input_glob", records, *flags, "--output_file", out, "--seq_length", "64")
    assert name in line


@damaged
def test_records(damage, write, tokenizer_folder, tmp_path, capfd):
    file = write("records.jsonl", DAMAGE[damage])
    flags = ["--vocab_file", tokenizer_folder / "tokenizer.json", "--output_file", tmp_path / "o.mindrecord"]
    refused(capfd, "preprocess", "--input_glob", file, *flags, "--seq_length", "64", "--workers", "1")


@damaged
def test_mindrecord_files(damage, write, tmp_path, capfd):
    file = write("d.mindrecord", DAMAGE[damage])
    refused(capfd, "data", "show", file)


@damaged
@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_adapters(damage, name, write, tmp_path, capfd):
    write("adapter_config.json", b'{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}')
    write("adapter_model.safetensors", struct.pack("<Q", 2) + b"{}")
    write(name, DAMAGE[damage])
    refused(capfd, "inspect", tmp_path)


@damaged
@pytest.mark.parametrize("name", ["curves/loss.csv", "run.json", "health.jsonl"])
def test_reports(damage, name, write, tmp_path, capfd):
    run = tmp_path / "run"
    (run / "curves").mkdir(parents=True)
    (run / "curves" / "loss.csv").write_text("step,loss,grad_norm,learning_rate,tokens_per_second\n1,2,3,4,5\n")
    (run / name).write_bytes(DAMAGE[damage])
    if damage == "empty" and name != "run.json":
        pytest.skip("nothing has happened yet")
    assert name.split("/")[-1] in refused(capfd, "report", run)


@pytest.mark.parametrize("verb", ["plan", "inspect", "report", "launch"])
def test_what_is_no_file(verb, tmp_path, capfd):
    flag = {"plan": ["--config"], "launch": ["--command", "true", "--rank_table"]}.get(verb, [])
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for place in ("none", "pipe", "loop", "x" * 300, "a\nb"):
        refused(capfd, verb, *flag, tmp_path / place)
    refused(capfd, verb, *flag, "/dev/zero")


def test_headers_of_safetensors(served_folder, tmp_path, capfd):
    """Offsets, shapes and dtypes that are wrong, from sizes that do not fit to entries that are none."""
    whole = (served_folder / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header, body = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    name = next(key for key in header if key != "__metadata__")

    def with_header(value) -> bytes:
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        return struct.pack("<Q", len(text)) + text + body

    def with_entry(**changes) -> bytes:
        return with_header({**header, name: {**header[name], **changes}})

    cases = {
        "half": whole[: len(whole) // 2],
        "length only": whole[:8],
        "three bytes": whole[:3],
        "length 2^63": struct.pack("<Q", 2**63) + whole[8:],
        "length 10^9": struct.pack("<Q", 10**9) + whole[8:],
        "negative": with_entry(data_offsets=[-5, 10]),
        "beyond": with_entry(data_offsets=[0, 10**15]),
        "backwards": with_entry(data_offsets=[10, 0]),
        "text offsets": with_entry(data_offsets="ab"),
        "negative shape": with_entry(shape=[-1, 5]),
        "vast shape": with_entry(shape=[10**10, 10**10]),
        "text shape": with_entry(shape="ab"),
        "dtype": with_entry(dtype="X9"),
        "no fields": with_header({**header, name: {}}),
        "number": with_header({**header, name: 5}),
        "a list": with_header(b"[]"),
        "deep": with_header(b"[" * 100_000),
        "binary": with_header(b"\xff" * 50),
    }
    shutil.copy(served_folder / "config.json", tmp_path)
    for case, content in cases.items():
        (tmp_path / "model.safetensors").write_bytes(content)
        assert "model.safetensors" in refused(capfd, "inspect", tmp_path), case
