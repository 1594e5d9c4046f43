"""Tokenizers into GGUF files and out again: the same ids, special tokens and templates."""

from __future__ import annotations

import json

import gguf
import pytest
from conftest import SAMPLES
from gguf_reference import random_tensors, small_config
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from mindcoder.checkpoint.convert import ConvertRequest, convert
from mindcoder.checkpoint.end_tokens import end_tokens
from mindcoder.checkpoint.weights import open_weights
from mindcoder.data.chat_template import chat_template
from mindcoder.data.models_template import read_models_template
from mindcoder.data.text_format import TextFormat, write_text_format
from mindcoder.errors import UserError
from mindcoder.tokenizer import load_tokenizer
from mindcoder.tokenizer.bpe import train_tokenizer
from mindcoder.tokenizer.fingerprint import fingerprint

TRICKY = [
    "def f(x):\n    return x1234 + 5.6e-7\n",
    "中文注释：快速排序 🙂👩‍💻 ２３½",
    "  two spaces, \ttab\r\n and   three \n\n\n",
    "it's WE'LL don't 'tis",
    "naïve cafe\u0301 안녕 мир !!?? <- ->",
    "<|endoftext|> in <fim_prefix>text",
]
# As the published tokenizer.json have them: Qwen2.5-Coder, Llama 3, DeepSeek-Coder.
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
DEEPSEEK = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+")


def texts():
    found = [text for record in json.loads(SAMPLES.read_text(encoding="utf-8")) for text in record.values()]
    return [*found, *TRICKY]


def byte_level(steps, normalizer=None, ignore_merges=False) -> Tokenizer:
    """A small byte-level BPE that cuts texts by ``steps``."""
    backend = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, show_progress=False, initial_alphabet=alphabet)
    backend.train_from_iterator(texts() * 3, trainer)
    special = [AddedToken(text, normalized=False, special=True) for text in ("<|endoftext|>", "<|im_start|>")]
    backend.add_special_tokens([*special, AddedToken("<|im_end|>", normalized=False, special=True)])
    backend.add_tokens([AddedToken("<tool>", normalized=False)])
    return backend


def split(expression):
    return pre_tokenizers.Split(Regex(expression), "isolated")


TOKENIZERS = {
    "qwen2": lambda: byte_level([split(QWEN2)], normalizers.NFC()),
    "llama-bpe": lambda: byte_level([split(LLAMA3)], ignore_merges=True),
    "deepseek-coder": lambda: byte_level([*map(split, DEEPSEEK), pre_tokenizers.Digits(individual_digits=True)]),
    "gpt-2": lambda: byte_level([split(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")]),
}


def model(root, rows=512, family="llama", **overrides):
    """A Hugging Face folder without tokenizer."""
    config = small_config(family, vocab_size=rows, **overrides)
    root.mkdir()
    (root / "config.json").write_text(json.dumps(config))
    save_file(random_tensors(family, config), root / "model.safetensors")
    return root


def through_gguf(folder):
    """The same model out of a GGUF file, and the file's metadata."""
    file = folder.with_suffix(".gguf")
    convert(ConvertRequest(str(folder), file, show_progress=False, overwrite=True))
    fields = gguf.GGUFReader(file).fields
    return open_weights(file), {name: fields[name].contents() for name in fields}


def tokenizer_of(weights):
    return load_tokenizer(weights.companions["tokenizer.json"])


def same_ids(ours, theirs):
    for text in texts():
        ids = theirs.encode(text)
        assert ours.encode(text) == ids, text
        assert ours.decode(ids) == theirs.decode(ids)
    assert fingerprint(ours) == fingerprint(theirs)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_byte_level_tokenizer_keeps_its_ids(name, tmp_path):
    folder = model(tmp_path / "hf")
    TOKENIZERS[name]().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<|im_end|>", "bos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"})
    )
    weights, metadata = through_gguf(folder)
    original = load_tokenizer(folder)
    same_ids(tokenizer_of(weights), original)
    assert metadata["tokenizer.ggml.model"] == "gpt2" and metadata["tokenizer.ggml.pre"] == name
    assert len(metadata["tokenizer.ggml.tokens"]) == 512
    assert metadata["tokenizer.ggml.tokens"][504:506] == ["[PAD504]", "[PAD505]"]
    types = metadata["tokenizer.ggml.token_type"]
    assert types[499:505] == [1, 3, 3, 3, 4, 5]
    assert metadata["tokenizer.ggml.eos_token_id"] == original.eos_id == weights.config.eos_token_id
    assert metadata["tokenizer.ggml.add_bos_token"] is False


def test_starcoder_tokenizer_with_its_gaps(tmp_path):
    folder = model(tmp_path / "hf", 601, "gpt_bigcode")
    train_tokenizer(texts() * 2, 600).save(folder)
    weights, metadata = through_gguf(folder)
    same_ids(tokenizer_of(weights), load_tokenizer(folder))
    assert metadata["tokenizer.ggml.pre"] == "starcoder"
    marks = [metadata[f"tokenizer.ggml.fim_{name}_token_id"] for name in ("pre", "suf", "mid", "pad", "rep")]
    assert marks == [1, 3, 2, 4, 18]
    assert metadata["tokenizer.ggml.padding_token_id"] == 599
    prompt = tokenizer_of(weights).encode_infill("def f(x):\n", "\n    return y")
    assert prompt == load_tokenizer(folder).encode_infill("def f(x):\n", "\n    return y")


def test_padding_token_beyond_the_model_is_left_out(tmp_path):
    """StarCoder's own vocabulary has no padding token: one is added behind the last row of the model."""
    folder = model(tmp_path / "hf", 599, "gpt_bigcode")
    train_tokenizer(texts() * 2, 600).save(folder)
    weights, metadata = through_gguf(folder)
    assert "tokenizer.ggml.padding_token_id" not in metadata and len(metadata["tokenizer.ggml.tokens"]) == 599
    same_ids(tokenizer_of(weights), load_tokenizer(folder))
    small = model(tmp_path / "small", 590, "gpt_bigcode")
    train_tokenizer(texts() * 2, 600).save(small)
    with pytest.raises(UserError, match="the tokenizer has 600 tokens, the model 590: not each other's"):
        through_gguf(small)


@pytest.mark.parametrize("file", ["tokenizer.model", "tokenizer.json"])
def test_sentencepiece_keeps_its_ids(file, tmp_path):
    from families import sentencepiece_model

    folder = model(tmp_path / "hf", 904)
    (folder / "tokenizer.model").write_bytes(sentencepiece_model())
    original = load_tokenizer(folder)
    if file == "tokenizer.json":
        original.save(folder)
        (folder / "tokenizer.model").unlink()
        original = load_tokenizer(folder)
    weights, metadata = through_gguf(folder)
    same_ids(tokenizer_of(weights), original)
    assert metadata["tokenizer.ggml.model"] == "llama" and metadata["tokenizer.ggml.add_bos_token"] is True
    assert metadata["tokenizer.ggml.token_type"][:8] == [2, 3, 3, 3, 3, 3, 3, 6]  # four marks of gaps
    assert metadata["tokenizer.ggml.unknown_token_id"] == 0


def test_end_of_turn_is_kept(tmp_path):
    folder = model(tmp_path / "hf")
    TOKENIZERS["qwen2"]().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [500, 502]}))
    weights, metadata = through_gguf(folder)
    assert metadata["tokenizer.ggml.eos_token_id"] == 500 and metadata["tokenizer.ggml.eot_token_id"] == 502
    assert end_tokens(weights) == {500, 502}
    assert 'PARAMETER stop "<|im_end|>"' in (tmp_path / "hf.Modelfile").read_text()


def test_template_that_the_model_was_trained_with(tmp_path):
    folder = model(tmp_path / "hf", 601, "gpt_bigcode")
    train_tokenizer(texts() * 2, 600).save(folder)
    trained = TextFormat("wizardcoder", fingerprint(load_tokenizer(folder)))
    write_text_format(folder, trained)
    weights, metadata = through_gguf(folder)
    assert weights.text_format == trained
    assert metadata["tokenizer.chat_template"] == chat_template("wizardcoder", False)
    assert read_models_template(weights.companions)[0] == chat_template("wizardcoder", False)
    assert (tmp_path / "hf.Modelfile").read_text() == (
        "FROM ./hf.gguf\n"
        "PARAMETER num_ctx 64\n"
        'TEMPLATE """{{ if .Suffix }}<fim_prefix>{{ .Prompt }}<fim_suffix>{{ .Suffix }}<fim_middle>{{ else }}'
        "{{ if .System }}{{ .System }}\n\n### Instruction:\n{{ .Prompt }}\n\n### Response:{{ else }}"
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        '### Instruction:\n{{ .Prompt }}\n\n### Response:{{ end }}{{ end }}"""\n'
        'PARAMETER stop "<|endoftext|>"\n'
        'PARAMETER stop "### Instruction"\n'
    )


def test_models_own_template(tmp_path):
    folder = model(tmp_path / "hf")
    TOKENIZERS["qwen2"]().save(str(folder / "tokenizer.json"))
    own = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "chat_template": own}))
    weights, metadata = through_gguf(folder)
    assert metadata["tokenizer.chat_template"] == own == read_models_template(weights.companions)[0]
    assert "TEMPLATE" not in (tmp_path / "hf.Modelfile").read_text()


def test_tokenizer_that_gguf_cannot_say_is_refused(tmp_path):
    folder = model(tmp_path / "hf")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    byte_level([split(r"\d\d")]).save(str(folder / "tokenizer.json"))
    with pytest.raises(UserError, match="splits texts in a way that GGUF has no name for; known: starcoder"):
        through_gguf(folder)
    byte_level([split(LLAMA3)], normalizers.Lowercase()).save(str(folder / "tokenizer.json"))
    with pytest.raises(UserError, match="splits texts in a way that GGUF has no name for"):
        through_gguf(folder)
    assert not folder.with_suffix(".gguf").exists()


@pytest.mark.parametrize("key, value", [("pre", "chatglm-bpe"), ("model", "bert")])
def test_tokenizer_that_is_not_implemented_leaves_the_weights_readable(key, value, tmp_path, caplog):
    from gguf_reference import write_reference

    config = small_config("llama")
    texts_keys = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [chr(256 + index) for index in range(300)],
        "tokenizer.ggml.token_type": [1] * 300,
        f"tokenizer.ggml.{key}": value,
    }
    write_reference(tmp_path / "a.gguf", config, random_tensors("llama", config), metadata=texts_keys)
    weights = open_weights(tmp_path / "a.gguf")
    assert not weights.companions and len(weights.parameters()) == 21
    assert f"tokenizer.ggml.{key} '{value}' is not implemented" in caplog.text and "--tokenizer" in caplog.text
