"""One tokenizer in all its files has one fingerprint; another one has another."""

from __future__ import annotations

import json
import shutil

import pytest
from families import sentencepiece_model

from mindcoder.tokenizer import load_tokenizer
from mindcoder.tokenizer.bpe import train_tokenizer
from mindcoder.tokenizer.fingerprint import fingerprint


def test_the_form_of_the_files_does_not_count(tokenizer_folder, small_tokenizer, tmp_path):
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(tmp_path / "again")
    prints = {
        fingerprint(small_tokenizer),
        fingerprint(load_tokenizer(tokenizer_folder)),
        fingerprint(load_tokenizer(tokenizer_folder / "vocab.json", tokenizer_folder / "merges.txt")),
        fingerprint(load_tokenizer(tmp_path / "again")),
    }
    assert len(prints) == 1 and prints.pop().vocab_size == small_tokenizer.vocab_size - 1  # [PAD] does not count


def test_llamas_two_forms_are_one_tokenizer(tmp_path):
    from transformers import LlamaTokenizerFast

    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model())
    fast = LlamaTokenizerFast(str(tmp_path / "tokenizer.model"), from_slow=True, add_prefix_space=True)
    fast.save_pretrained(tmp_path / "fast")
    (tmp_path / "fast" / "tokenizer.model").unlink(missing_ok=True)
    ours, theirs = load_tokenizer(tmp_path / "tokenizer.model"), load_tokenizer(tmp_path / "fast")
    assert fingerprint(ours) == fingerprint(theirs) and fingerprint(ours).adds_bos


@pytest.mark.parametrize("pad", ["<pad>", "[PAD]", "<my_pad>"])
def test_an_appended_padding_token_does_not_count(pad, tokenizer_folder, tmp_path):
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(tokenizer_folder / name, tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    vocabulary.pop("[PAD]", None)
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    bare = load_tokenizer(tmp_path / "vocab.json", tmp_path / "merges.txt", pad_token="<|endoftext|>")
    padded = load_tokenizer(tmp_path / "vocab.json", tmp_path / "merges.txt", pad_token=pad)
    assert padded.vocab_size == bare.vocab_size + 1 and fingerprint(padded) == fingerprint(bare)


def test_other_vocabularies_merges_and_ends_are_told_apart(tokenizer_folder, small_tokenizer, tmp_path):
    own = fingerprint(small_tokenizer)
    assert fingerprint(train_tokenizer(["def f(x): return x\n" * 9], 600)).sha256 != own.sha256
    data = json.loads((tokenizer_folder / "tokenizer.json").read_text())
    merges = data["model"]["merges"]
    for name, changed in (("reversed", merges[::-1]), ("one fewer", merges[:-1]), ("first gone", merges[1:])):
        (tmp_path / "tokenizer.json").write_text(json.dumps({**data, "model": {**data["model"], "merges": changed}}))
        assert fingerprint(load_tokenizer(tmp_path / "tokenizer.json")).sha256 != own.sha256, name
    shutil.copytree(tokenizer_folder, tmp_path / "end")
    config = json.loads((tmp_path / "end" / "tokenizer_config.json").read_text())
    config["eos_token"] = "<fim_prefix>"
    (tmp_path / "end" / "tokenizer_config.json").write_text(json.dumps(config))
    assert fingerprint(load_tokenizer(tmp_path / "end")).sha256 != own.sha256
