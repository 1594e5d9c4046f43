"""StarCoder's byte-level BPE on Hugging Face `tokenizers`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from mindcoder.errors import UserError
from mindcoder.tokenizer.special_tokens import END_OF_TEXT, PAD, STARCODER_SPECIAL_TOKENS


class CodeTokenizer:
    """Byte-level BPE: any text survives ``decode(encode(text))`` unchanged.

    Args:
        backend: the `tokenizers.Tokenizer` that does the work.
        pad_token: padding token; added with the next free id when the vocabulary lacks it.

    Attributes:
        eos_id: id of ``<|endoftext|>``.
        pad_id: id of the padding token.
    """

    def __init__(self, backend: Tokenizer, pad_token: str = PAD) -> None:
        self.backend = backend
        if backend.token_to_id(END_OF_TEXT) is None:
            raise UserError(f"the vocabulary has no {END_OF_TEXT}, which ends every text")
        if backend.token_to_id(pad_token) is None:
            backend.add_special_tokens([AddedToken(pad_token, normalized=False, special=True)])
        self.eos_id: int = backend.token_to_id(END_OF_TEXT)
        self.pad_id: int = backend.token_to_id(pad_token)

    @property
    def vocab_size(self) -> int:
        """Count of ids, special tokens included."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Token ids; special tokens in the text become their ids, nothing is added."""
        return self.backend.encode(text, add_special_tokens=False).ids

    def encode_at(self, text: str, position: int) -> tuple[list[int], int]:
        """Token ids, and the index of the token that covers the character at ``position`` (their count if none)."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        token = encoding.char_to_token(position) if position < len(text) else None
        return encoding.ids, len(encoding.ids) if token is None else token

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """Text of ``ids``; incomplete UTF-8 becomes U+FFFD."""
        return self.backend.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def save(self, directory: str | Path) -> None:
        """Write tokenizer.json, vocab.json and merges.txt, and the config that transformers reads."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.backend.save(str(directory / "tokenizer.json"))
        self.backend.model.save(str(directory))
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END_OF_TEXT,
            "bos_token": END_OF_TEXT,
            "unk_token": END_OF_TEXT,
            "pad_token": self.backend.id_to_token(self.pad_id),
            "clean_up_tokenization_spaces": False,
        }
        (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def _byte_level_backend(model: models.BPE) -> Tokenizer:
    """Digits one by one, then GPT-2's byte-level split: the two steps of StarCoder's tokenizer.json."""
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def load_tokenizer(
    vocab_file: str | Path | None = None,
    merge_file: str | Path | None = None,
    tokenizer_file: str | Path | None = None,
    pad_token: str = PAD,
) -> CodeTokenizer:
    """Load from ``vocab.json`` + ``merges.txt`` or from ``tokenizer.json`` (given as either argument).

    Raises:
        UserError: a file is missing, broken, or the two do not belong together.
    """
    if tokenizer_file is None and vocab_file is not None and merge_file is None:
        path = Path(vocab_file)
        tokenizer_file = path / "tokenizer.json" if path.is_dir() else path
    if tokenizer_file is not None:
        path = Path(tokenizer_file)
        if not path.is_file():
            raise UserError("no such tokenizer file", path)
        try:
            return CodeTokenizer(Tokenizer.from_file(str(path)), pad_token)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"is no tokenizer.json ({error}); a vocab.json needs its merges.txt beside it (--merge_file)", path
            ) from None
    if vocab_file is None or merge_file is None:
        raise UserError(
            "a tokenizer is needed: --vocab_file and --merge_file (or a tokenizer.json), or "
            "processor.tokenizer.vocab_file and merge_file in the YAML file"
        )
    return _load_vocab_and_merges(Path(vocab_file), Path(merge_file), pad_token)


def _load_vocab_and_merges(vocab_file: Path, merge_file: Path, pad_token: str) -> CodeTokenizer:
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
    special = [token for token in (*STARCODER_SPECIAL_TOKENS, pad_token) if token in vocab]
    if END_OF_TEXT not in special:
        special.insert(0, END_OF_TEXT)
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    return CodeTokenizer(backend, pad_token)


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
    return CodeTokenizer(backend, pad_token)
