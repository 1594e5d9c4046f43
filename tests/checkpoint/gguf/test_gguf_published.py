"""Published vocabularies, as llama.cpp's converter wrote them: the ids of its own tests, and the same lists again.

The files are ``models/ggml-vocab-NAME.gguf``, ``.gguf.inp`` and ``.gguf.out`` of llama.cpp, which are in the source
archive of llama-cpp-python on PyPI, too (``vendor/llama.cpp/models``). Where they are not in the shared data there is
nothing to compare with.
"""

from __future__ import annotations

import pytest
from conftest import SHARED_DATA

from mindcoder.checkpoint.gguf.header import read_header
from mindcoder.checkpoint.gguf.text_input import text_files
from mindcoder.tokenizer import load_tokenizer
from mindcoder.tokenizer.gguf_vocabulary import vocabulary_of

FOLDER = SHARED_DATA / "ggml-vocab"
NAMES = ("starcoder", "refact", "qwen2", "llama-bpe", "deepseek-coder", "gpt-2", "llama-spm")
BETWEEN = "\n__ggml_vocab_test__\n"


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_those_of_llama_cpps_own_tests(name):
    file = FOLDER / f"ggml-vocab-{name}.gguf"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    metadata = read_header(file).metadata
    tokenizer = load_tokenizer(text_files(metadata, file)["tokenizer.json"])
    given = file.with_name(f"{file.name}.inp").read_text(encoding="utf-8").split(BETWEEN)[:-1]
    expected = file.with_name(f"{file.name}.out").read_text(encoding="utf-8").splitlines()
    assert len(given) == len(expected) == 46
    for text, ids in zip(given, expected):
        assert tokenizer.backend.encode(text, add_special_tokens=False).ids == list(map(int, ids.split())), text
    tokens = metadata["tokenizer.ggml.tokens"]
    again = vocabulary_of(tokenizer.backend, len(tokens))
    assert list(again.tokens) == tokens and list(again.types) == metadata["tokenizer.ggml.token_type"]
    assert list(again.merges) == metadata.get("tokenizer.ggml.merges", [])
