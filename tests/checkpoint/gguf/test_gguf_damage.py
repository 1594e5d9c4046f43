"""Damaged and hostile GGUF files: always one line that names the file, at once and without taking memory."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
from gguf_reference import random_tensors, small_config, write_reference

from mindcoder.checkpoint.convert import ConvertRequest, convert
from mindcoder.checkpoint.gguf.value_types import packed, packed_text
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError

F32, Q4_0, STRING, ARRAY, UINT8, UINT32 = 0, 2, 8, 9, 0, 4
HUGE = 1 << 60


def text(value: str) -> bytes:
    return packed_text(value)


def tensor(name="t", shape=(32,), kind=F32, offset=0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def container(keys=(), tensors=(), counts=None, version=3, magic=b"GGUF", data=4096) -> bytes:
    counts = counts or (len(tensors), len(keys))
    head = magic + struct.pack("<IQQ", version, *counts) + b"".join(keys) + b"".join(tensors)
    return head + b"\0" * (-len(head) % 32) + b"\0" * data


def key(name: str, value) -> bytes:
    return text(name) + packed(value)


ARCHITECTURE = key("general.architecture", "llama")

FILES = {
    "empty": (b"", "ends within its first four bytes"),
    "another magic": (b"GGML" + b"\0" * 100, "is not a GGUF file: it begins with b'GGML'"),
    "version 2": (container(version=2), "is GGUF version 2, expected 3"),
    "version 1": (container(version=1), "is GGUF version 1, expected 3"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is big-endian GGUF"),
    "big-endian magic": (b"FUGG" + struct.pack(">IQQ", 3, 0, 0), "is big-endian GGUF"),
    "no counts": (b"GGUF" + struct.pack("<IQ", 3, 1), "ends within the number of keys"),
    "huge number of tensors": (container(counts=(HUGE, 0)), f"says that it has {HUGE} tensors"),
    "huge number of keys": (container(counts=(0, HUGE)), f"says that it has {HUGE} metadata keys"),
    "more keys than there are": (container([ARCHITECTURE], counts=(0, 60000), data=0), "key '' occurs twice"),
    "more tensors than there are": (container(counts=(100000, 0), data=0), "ends within"),
    "long key": (container([struct.pack("<Q", HUGE)], counts=(0, 1)), f"a text of {HUGE} bytes, at most 1024"),
    "long text": (container([text("a") + struct.pack("<IQ", STRING, HUGE)]), f"a: a text of {HUGE} bytes"),
    "text beyond the file": (container([text("a") + struct.pack("<IQ", STRING, 1 << 20)]), "ends within a"),
    "no UTF-8": (container([struct.pack("<Q", 2) + b"\xff\xfe" + packed(1)]), "a metadata key is not UTF-8"),
    "huge array": (container([text("a") + struct.pack("<IIQ", ARRAY, UINT8, HUGE)]), f"has {HUGE} items"),
    "huge array of texts": (container([text("a") + struct.pack("<IIQ", ARRAY, STRING, HUGE)]), f"has {HUGE} items"),
    "array beyond the file": (container([text("a") + struct.pack("<IIQ", ARRAY, UINT32, 5000)]), "has 5000 items"),
    "array of arrays": (container([text("a") + struct.pack("<IIQ", ARRAY, ARRAY, 1)]), "has an array of arrays"),
    "unknown type of value": (container([text("a") + struct.pack("<I", 99)]), "has type 99, which GGUF does not have"),
    "unknown type of items": (container([text("a") + struct.pack("<IIQ", ARRAY, 99, 1)]), "has items of type 99"),
    "flag of 7": (container([text("a") + struct.pack("<IB", 7, 7)]), "is 7, expected 0 or 1"),
    "key twice": (container([key("a", 1), key("a", 2)]), "metadata key 'a' occurs twice"),
    "no alignment": (container([key("general.alignment", 0)]), "general.alignment 0: expected a power of two"),
    "odd alignment": (container([key("general.alignment", 24)]), "general.alignment 24: expected a power of two"),
    "huge alignment": (container([key("general.alignment", 1 << 31)]), "expected a power of two up to 65536"),
    "alignment in words": (container([key("general.alignment", "32")]), "general.alignment '32'"),
    "no dimensions": (container([ARCHITECTURE], [tensor(shape=())]), "has 0 dimensions, expected 1 to 4"),
    "many dimensions": (container([], [text("t") + struct.pack("<I", 1 << 31)]), "has 2147483648 dimensions"),
    "dimension of 0": (container([], [tensor(shape=(32, 0))]), "has shape [0, 32]"),
    "part of a block": (container([], [tensor(shape=(33,), kind=Q4_0)]), "expected rows of Q4_0's blocks of 32"),
    "huge tensor": (container([], [tensor(shape=(HUGE,))]), "the file at"),
    "product beyond 64 bits": (container([], [tensor(shape=(HUGE, HUGE, HUGE, HUGE))]), "the file at"),
    "unknown type": (container([], [tensor(kind=99)]), "tensor 't' has type 99, which is not read; expected F32, F16"),
    "type that is not read": (container([], [tensor(kind=10)]), "tensor 't' has type Q2_K, which is not read"),
    "beyond the file": (container([], [tensor(offset=8192)]), "tensor 't' ends at byte 8384, the file at 4160"),
    "offset of 2^63": (container([], [tensor(offset=1 << 63)]), "the file at"),
    "misaligned": (container([], [tensor(offset=4)]), "tensor 't' begins at 4, which is not a multiple of 32"),
    "overlapping": (container([], [tensor(), tensor("u", offset=64)]), "tensors 't' and 'u' overlap"),
    "tensor twice": (container([], [tensor(), tensor(offset=128)]), "tensor 't' occurs twice"),
    "no architecture": (container([key("a", 1)], [tensor()]), "general.architecture is missing"),
    "architecture is a number": (container([key("general.architecture", 7)]), "general.architecture 7 is not impl"),
    "nothing but an architecture": (container([ARCHITECTURE]), "llama.vocab_size is not known: tensor token_embd"),
    "control characters": (container([key("general.architecture", "a\x1b[2J\nb")]), "general.architecture 'a"),
}


def refused(file) -> str:
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as error:
            open_weights(file).parameters()
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    message = str(error.value)
    assert message.startswith(f"{file}: ") and "\n" not in message and "\x1b" not in message and len(message) < 1000
    assert peak < 8 << 20
    return message


@pytest.mark.parametrize("name", FILES)
def test_hostile_container(name, tmp_path):
    content, expected = FILES[name]
    file = tmp_path / "a.gguf"
    file.write_bytes(content)
    assert expected in refused(file)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small whole file with a tokenizer, as bytes."""
    file = tmp_path_factory.mktemp("whole") / "a.gguf"
    config = small_config("llama")
    tokens = [chr(256 + index) for index in range(300)]
    text_keys = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, *[1] * 299],
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.eos_token_id": 0,
    }
    del text_keys["tokenizer.ggml.merges"]
    write_reference(file, config, random_tensors("llama", config), metadata=text_keys)
    open_weights(file).parameters()
    return file.read_bytes()


def test_every_truncation_is_said(whole, tmp_path):
    """At some thirty places of the header, and some of the tensors."""
    file = tmp_path / "a.gguf"
    cuts = [*range(0, 12000, 397), *range(12000, len(whole), len(whole) // 10), len(whole) - 1]
    for cut in cuts:
        file.write_bytes(whole[:cut])
        refused(file)


def test_changed_bytes_are_refused_or_read(whole, tmp_path):
    """Files with some random bytes in the header: no other exception, whatever they say."""
    rng = np.random.default_rng(0)
    file = tmp_path / "a.gguf"
    head = whole.index(b"blk.1.attn_norm.weight")
    for _ in range(120):
        damaged = bytearray(whole)
        for place in rng.integers(0, head, rng.integers(1, 4)):
            damaged[place] = rng.integers(0, 256)
        file.write_bytes(damaged)
        try:
            open_weights(file).parameters()
        except UserError as error:
            assert "\n" not in str(error) and str(file) in str(error)


def test_failed_conversion_leaves_nothing_behind(whole, tmp_path):
    source = tmp_path / "a.gguf"
    source.write_bytes(whole)
    with pytest.raises(UserError, match="is both source and target"):
        convert(ConvertRequest(str(source), source, overwrite=True, show_progress=False))
    source.write_bytes(whole[:-100])
    with pytest.raises(UserError, match=r"output_norm|output\.weight|ends at byte"):
        convert(ConvertRequest(str(source), tmp_path / "b.gguf", gguf_type="q8_0", show_progress=False))
    assert [path.name for path in tmp_path.iterdir()] == ["a.gguf"]


def test_gguf_under_another_name_and_something_else_under_its_name(whole, tmp_path):
    (tmp_path / "model").write_bytes(whole)
    assert open_weights(tmp_path / "model").kind == "gguf"
    (tmp_path / "b.gguf").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match="is not a GGUF file: it begins with b'vers'"):
        open_weights(tmp_path / "b.gguf")
    (tmp_path / "c.gguf").mkdir()
    with pytest.raises(UserError, match="is not a Hugging Face folder"):
        open_weights(tmp_path / "c.gguf")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"tokenizer.ggml.token_type": [1, 1]}, "token_type has 2 items, tokens 300"),
        ({"tokenizer.ggml.merges": ["a b"]}, "merge 'a b' is not of tokens"),
        ({"tokenizer.ggml.merges": [1]}, "tokenizer.ggml.merges: expected a list of str"),
        ({"tokenizer.ggml.tokens": ["a"] * 300}, "token 'a' occurs twice"),
        ({"tokenizer.ggml.tokens": "abc"}, "tokenizer.ggml.tokens: expected a list of str"),
        ({"tokenizer.ggml.eos_token_id": 300}, "tokenizer.ggml.eos_token_id 300: expected one of 300 tokens"),
        ({"tokenizer.ggml.eos_token_id": "</s>"}, "tokenizer.ggml.eos_token_id '</s>': expected one of"),
        ({"tokenizer.ggml.model": "llama"}, "scores has 0 items, tokens 300"),
        ({"tokenizer.ggml.model": 1}, "tokenizer.ggml.model: expected a text"),
        ({"tokenizer.chat_template": 5}, "tokenizer.chat_template: expected a text"),
        (
            {"tokenizer.ggml.strange": 5},
            "'tokenizer.ggml.strange': whether this key changes the tokenizer is not known",
        ),
        ({"mindcoder.text_format": "[1]"}, "mindcoder.text_format: expected an object"),
        ({"mindcoder.text_format": "{"}, "mindcoder.text_format: bad JSON"),
        ({"mindcoder.text_format": '{"prompt_template": "no"}'}, "no template 'no'"),
    ],
    ids=str,
)
def test_damaged_tokenizer(change, message, tmp_path):
    config = small_config("llama")
    keys = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": [chr(256 + index) for index in range(300)],
        "tokenizer.ggml.token_type": [1] * 300,
    }
    write_reference(tmp_path / "a.gguf", config, random_tensors("llama", config), metadata=keys | change)
    with pytest.raises(UserError) as error:
        open_weights(tmp_path / "a.gguf")
    assert message in str(error.value) and str(tmp_path / "a.gguf") in str(error.value)
