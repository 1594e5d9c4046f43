"""Against Hugging Face's pure-Python GPT-2 tokenizer, which shares no code with `tokenizers`."""

from __future__ import annotations

import json
import unicodedata
from unittest.mock import Mock

import pytest

from mindcoder.errors import NoSpaceError, UserError
from mindcoder.tokenizer import load_tokenizer
from mindcoder.tokenizer.bpe import train_tokenizer
from mindcoder.tokenizer.special_tokens import STARCODER_SPECIAL_TOKENS

TRICKY = [
    "中文注释：快速排序",
    "emoji 🙂👩‍💻 done",
    "\tif x:\r\n\t\treturn 12345",
    "a  b   c\n\n\n d",
    "x²½Ⅷ 10",
    "éè ﬁ",
    "don't I'll 've",
    " \u3000 ",
    "\x00\x7f",
    "numbers 007 3.14e-5",
]


class Reference:
    """StarCoder's rule spelled out: every numeric character alone, the rest by GPT-2's tokenizer."""

    def __init__(self, folder):
        from transformers import GPT2Tokenizer

        self.gpt2 = GPT2Tokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))

    def encode(self, text: str) -> list[int]:
        pieces, run = [], ""
        for char in text:
            if unicodedata.category(char) in ("Nd", "Nl", "No"):
                pieces += [run, char]
                run = ""
            else:
                run += char
        return [
            index
            for piece in [*pieces, run]
            if piece
            for index in self.gpt2.convert_tokens_to_ids(self.gpt2.tokenize(piece))
        ]


def test_ids_equal_huggingface_on_code_alpaca(shared_data, tmp_path):
    records = json.loads((shared_data / "code_alpaca_2k.json").read_text())
    texts = ["\n".join(record.values()) for record in records]
    train_tokenizer(texts[:500], 2000).save(tmp_path)
    tokenizer = load_tokenizer(tmp_path / "vocab.json", tmp_path / "merges.txt")
    reference = Reference(tmp_path)
    for text in [*texts, *TRICKY]:
        ids = tokenizer.encode(text)
        assert ids == reference.encode(text), text
        assert tokenizer.decode(ids) == text


def test_both_file_forms_and_transformers_agree(tokenizer_folder):
    from transformers import AutoTokenizer

    pair = load_tokenizer(tokenizer_folder / "vocab.json", tokenizer_folder / "merges.txt")
    single = load_tokenizer(tokenizer_folder / "tokenizer.json")
    auto = AutoTokenizer.from_pretrained(tokenizer_folder)
    for text in [*TRICKY, "<fim_prefix>def f(<fim_suffix>):<fim_middle>x<|endoftext|>"]:
        assert pair.encode(text) == single.encode(text) == auto.encode(text, add_special_tokens=False)
        assert pair.decode(pair.encode(text)) == text
    assert auto.eos_token_id == pair.eos_id == 0 and auto.pad_token_id == pair.pad_id


def test_special_tokens_have_starcoders_ids(small_tokenizer):
    ids = [small_tokenizer.backend.token_to_id(token) for token in STARCODER_SPECIAL_TOKENS]
    assert ids == list(range(19))
    assert small_tokenizer.pad_id == small_tokenizer.vocab_size - 1
    assert small_tokenizer.encode("1234")[0] != small_tokenizer.encode("34")[0]
    assert len(small_tokenizer.encode("1234")) == 4


def test_wizardcoder_pad_is_appended_when_missing(small_tokenizer, tmp_path):
    vocab = {token: index for token, index in small_tokenizer.backend.get_vocab(False).items() if token != "[PAD]"}
    small_tokenizer.save(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    tokenizer = load_tokenizer(tmp_path / "vocab.json", tmp_path / "merges.txt")
    assert tokenizer.pad_id == len(vocab) and tokenizer.vocab_size == len(vocab) + 1


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("vocab.json", "{", "vocab.json:1: bad JSON"),
        ("vocab.json", "[1]", "vocab.json: holds a list, expected an object"),
        ("vocab.json", '{"<|endoftext|>": 0}', "merges.txt:2: token .* do not belong together"),
        ("merges.txt", "#version: 0.2\na b c\n", "merges.txt:2: expected two tokens, found 'a b c'"),
    ],
)
def test_broken_files_are_named(small_tokenizer, tmp_path, name, text, expected):
    small_tokenizer.save(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=expected):
        load_tokenizer(tmp_path / "vocab.json", tmp_path / "merges.txt")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match="a tokenizer is needed"):
        load_tokenizer()
    with pytest.raises(UserError, match="no such tokenizer file"):
        load_tokenizer(tmp_path / "vocab.json", tmp_path / "merges.txt")
    (tmp_path / "vocab.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match="merges.txt: no such tokenizer file"):
        load_tokenizer(tmp_path / "vocab.json")


def test_a_full_disk_is_named_and_leaves_no_folder(tmp_path, monkeypatch):
    tokenizer = train_tokenizer(["a b c"], 300)

    def full(*arguments) -> None:
        raise Exception("No space left on device (os error 28)")

    monkeypatch.setattr("mindcoder.tokenizer.code_tokenizer.Tokenizer", Mock(**{"from_str.return_value.save": full}))
    with pytest.raises(NoSpaceError, match="made/here: no disk space left to write it"):
        tokenizer.save(tmp_path / "made" / "here")
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_folders_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: is a file, not a folder"):
        train_tokenizer(["a b c"], 300).save(tmp_path / "file" / "below")
