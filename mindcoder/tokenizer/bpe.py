"""StarCoder's byte-level BPE on Hugging Face `tokenizers`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from mindcoder.errors import UserError
from mindcoder.tokenizer.code_tokenizer import CodeTokenizer
from mindcoder.tokenizer.special_tokens import END_OF_TEXT, PAD, STARCODER_SPECIAL_TOKENS, SpecialTokens


def _byte_level_backend(model: models.BPE) -> Tokenizer:
    """Digits one by one, then GPT-2's byte-level split: the two steps of StarCoder's tokenizer.json."""
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def read_vocab_and_merges(vocab_file: Path, merge_file: Path) -> Tokenizer:
    """The backend of ``vocab.json`` and ``merges.txt``.

    Raises:
        UserError: a file is missing or broken, or the two do not belong together.
    """
    for path in (vocab_file, merge_file):
        if not path.is_file():
            raise UserError("no such tokenizer file", path)
    try:
        vocab = json.loads(vocab_file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"is not valid JSON: {error}", vocab_file) from None
    if not isinstance(vocab, dict) or not all(isinstance(index, int) for index in vocab.values()):
        raise UserError("expected one object of token -> id", vocab_file, 1)
    merges = []
    for number, line in enumerate(merge_file.read_text(encoding="utf-8").split("\n"), 1):
        if not line or line.startswith("#version"):
            continue
        parts = tuple(line.split(" "))
        if len(parts) != 2:
            raise UserError(f"expected two tokens, found {line!r}", merge_file, number)
        for token in (*parts, "".join(parts)):
            if token not in vocab:
                raise UserError(
                    f"token {token!r} is not in {vocab_file}: the two files do not belong together", merge_file, number
                )
        merges.append(parts)
    backend = _byte_level_backend(models.BPE(vocab=vocab, merges=merges))
    special = [token for token in (*STARCODER_SPECIAL_TOKENS, PAD) if token in vocab]
    if END_OF_TEXT not in special:
        special.insert(0, END_OF_TEXT)
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    return backend


def train_tokenizer(texts: Iterator[str] | Iterable[str], vocab_size: int, pad_token: str = PAD) -> CodeTokenizer:
    """Train a small tokenizer of the same kind, special tokens first and the padding token last.

    Args:
        texts: the training text.
        vocab_size: ids in all, special tokens and padding included; at least 276 + the bytes' 256 tokens.
    """
    least = len(STARCODER_SPECIAL_TOKENS) + 256 + 1
    if vocab_size < least:
        raise UserError(f"a vocabulary of {vocab_size} is too small, expected at least {least}", "--vocab_size")
    backend = _byte_level_backend(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        show_progress=False,
        special_tokens=list(STARCODER_SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(texts, trainer)
    return CodeTokenizer(backend, SpecialTokens(pad=pad_token))
