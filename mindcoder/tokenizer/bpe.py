"""StarCoder's byte-level BPE with Hugging Face `tokenizers`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from mindcoder.errors import UserError, single_line
from mindcoder.files import file_there, read_json_object, read_text
from mindcoder.tokenizer.code_tokenizer import CodeTokenizer
from mindcoder.tokenizer.special_tokens import END_OF_TEXT, PAD, STARCODER_SPECIAL_TOKENS, SpecialTokens

LARGEST_VOCABULARY = 2**24
LARGEST_GAP = 1024  # unused ids allowed below the largest one


def _byte_level_backend(model: models.BPE) -> Tokenizer:
    """Digits one by one, then GPT-2's byte-level split: the two pre-tokenization steps of StarCoder's
    tokenizer.json.
    """
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def read_vocab_and_merges(vocab_file: Path, merge_file: Path) -> Tokenizer:
    """Build the backend from ``vocab.json`` and ``merges.txt``.

    Raises:
        UserError: a file is missing or corrupt, or the two do not match.
    """
    for path in (vocab_file, merge_file):
        if not file_there(path):
            raise UserError("no such tokenizer file", path)
    vocab = read_json_object(vocab_file)
    check_ids(vocab, vocab_file)
    merges = []
    for number, line in enumerate(read_text(merge_file).split("\n"), 1):
        line = line.removesuffix("\r")
        if not line or line.startswith("#version"):
            continue
        parts = tuple(line.split(" "))
        if len(parts) != 2:
            raise UserError(f"expected two tokens, found {line[:60]!r}", merge_file, number)
        for token in (*parts, "".join(parts)):
            if token not in vocab:
                raise UserError(
                    f"token {token[:60]!r} is not in {vocab_file}: the two files do not belong together",
                    merge_file,
                    number,
                )
        merges.append(parts)
    try:
        backend = _byte_level_backend(models.BPE(vocab=vocab, merges=merges))
    except Exception as error:
        raise UserError(f"is not a vocabulary: {single_line(str(error), 200)}", vocab_file) from None
    special = [token for token in (*STARCODER_SPECIAL_TOKENS, PAD) if token in vocab]
    if END_OF_TEXT not in special:
        special.insert(0, END_OF_TEXT)
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    return backend


def check_ids(vocab: Mapping[str, Any], file: Path) -> None:
    """Check that ids are non-negative integers, one token each, with few gaps below the largest.

    Raises:
        UserError: names the token.
    """
    if not vocab:
        raise UserError("contains no tokens", file)
    for token, index in vocab.items():
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < LARGEST_VOCABULARY:
            raise UserError(f"token {token[:60]!r} has {index!r:.30}, expected its id, a whole number from 0", file)
    if len(set(vocab.values())) < len(vocab):
        first: dict[int, str] = {}
        token, other = next((t, first[i]) for t, i in vocab.items() if first.setdefault(i, t) != t)
        raise UserError(f"tokens {other[:60]!r} and {token[:60]!r} have the same id {vocab[token]}", file)
    largest = max(vocab.values())
    if largest >= 2 * len(vocab) + LARGEST_GAP:
        raise UserError(f"holds {len(vocab)} tokens, but an id as large as {largest}", file)


def train_tokenizer(texts: Iterator[str] | Iterable[str], vocab_size: int, pad_token: str = PAD) -> CodeTokenizer:
    """Train a small tokenizer of the same kind, special tokens first and the padding token last.

    Args:
        texts: the training text.
        vocab_size: total number of ids, special tokens and padding included; at least 276, of which 256 are the bytes.
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
