"""Every kind of tokenizer.json: the ids are those of transformers, on code, Chinese, emoji, tabs and line ends."""

from __future__ import annotations

import json

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from mindcoder.tokenizer import load_tokenizer

GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)  # that of Llama 3
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)  # that of Mistral's tekken
SPECIAL = ["<s>", "</s>", "<unk>", "<pad>"]
TRICKY = [
    "", " ", "\n", "\r\n", "a\r\nb\r\n\r\n", "\tif x:\n\t\treturn\t1\n", "中文注释：快速排序，２３！",
    "emoji 🙂👩‍💻🇨🇳 end",
    "a  b   c\n\n\n d   ", "x²½Ⅷ 10 007 3.14e-5 123456789", "éè ﬁ e\u0301", "don't I'LL 've", "\u3000 \u00a0",
    "</s><s> <mark>x</mark> <MARK>", "<mark>", " <mark> ", "word<mark>word", "\x00\x7f",
]  # fmt: skip


def byte_level(split: str | None = None, form: str | None = None, **options) -> Tokenizer:
    backend = Tokenizer(models.BPE(**options))
    if form == "NFC":
        backend.normalizer = normalizers.NFC()
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    backend.pre_tokenizer = (
        last if split is None else pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"), last])
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def deepseek() -> Tokenizer:
    backend = Tokenizer(models.BPE())
    steps = [
        pre_tokenizers.Split(Regex(text), "isolated") for text in (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥]+")
    ]
    digits = pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*steps, digits, pre_tokenizers.ByteLevel(False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    return backend


def llama_like(model) -> Tokenizer:
    backend = Tokenizer(model)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    return backend


def metaspace(model) -> Tokenizer:
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    return backend


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
KINDS = {
    "gpt-2": byte_level,
    "llama-3": lambda: byte_level(GPT4, ignore_merges=True),
    "qwen2": lambda: byte_level(GPT4.replace("{1,3}", ""), "NFC"),
    "tekken": lambda: byte_level(O200K),
    "deepseek-coder": deepseek,
    "llama-2": lambda: llama_like(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True)),
    "gemma": lambda: metaspace(models.BPE(unk_token="<unk>", byte_fallback=True)),
    "unigram": lambda: metaspace(models.Unigram()),
}


def trained(kind: str, texts: list[str]) -> Tokenizer:
    backend = KINDS[kind]()
    options = {"vocab_size": 1500, "show_progress": False}
    if kind in ("llama-2", "gemma", "unigram"):
        if kind == "llama-2":  # pre-tokenized by words only while merges are learned
            backend.pre_tokenizer = pre_tokenizers.Split(Regex("▁+|[^▁]+"), "isolated")
        special = [*SPECIAL, *BYTES]
        unigram = trainers.UnigramTrainer(special_tokens=special, unk_token="<unk>", **options)
        trainer = unigram if kind == "unigram" else trainers.BpeTrainer(special_tokens=special, **options)
        backend.train_from_iterator(texts, trainer)
        data = json.loads(backend.to_str())
        data["model"]["byte_fallback"] = True
        data["added_tokens"] = [item for item in data["added_tokens"] if item["content"] in SPECIAL]
        if kind == "llama-2":
            data["pre_tokenizer"] = None
        return Tokenizer.from_str(json.dumps(data))
    trainer = trainers.BpeTrainer(
        special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options
    )
    backend.train_from_iterator(texts, trainer)
    return backend


@pytest.mark.parametrize("begins", [False, True], ids=["", "bos"])
@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_texts_are_those_of_transformers(kind, begins, tmp_path, shared_data):
    from transformers import AutoTokenizer

    records = json.loads((shared_data / "code_alpaca_2k.json").read_text())
    texts = ["\n".join(record.values()) for record in records]
    backend = trained(kind, texts[:400])
    backend.add_tokens(
        [AddedToken("<mark>", normalized=False), AddedToken("</mark>", lstrip=True, rstrip=True, normalized=True)]
    )
    if begins:
        begin = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))])
        backend.post_processor = begin
    backend.enable_truncation(16)  # left over by whoever wrote the file
    backend.enable_padding(length=64, pad_token="<pad>", pad_id=backend.token_to_id("<pad>"))
    backend.save(str(tmp_path / "tokenizer.json"))
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **tokens}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert (ours.bos_id == ours.backend.token_to_id("<s>")) is begins and ours.eos_id == theirs.eos_token_id
    for text in [*texts, *TRICKY]:
        ids = ours.encode(text)
        assert ids == theirs(text)["input_ids"], text
        assert ours.encode_rendered(text) == theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.decode(ids, True) == theirs.decode(ids, skip_special_tokens=True)
    ours.save(tmp_path / "again")
    again = load_tokenizer(tmp_path / "again")
    assert all(again.encode(text) == ours.encode(text) for text in [*texts[::40], *TRICKY])
