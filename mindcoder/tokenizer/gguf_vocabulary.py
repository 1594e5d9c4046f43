"""A tokenizer as GGUF files state it (``tokenizer.ggml``), to and from a `tokenizers` backend."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models

from mindcoder.tokenizer.pre_tokenization import ALIASES, PRE_TOKENIZATIONS, pre_tokenization_of
from mindcoder.tokenizer.sentencepiece_model import LONGEST_PIECE, SPACE, Piece, sentencepiece_backend

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # token types
BYTE_LEVEL, SENTENCEPIECE = "gpt2", "llama"  # tokenizer.ggml.model
PADDING = "[PAD{index}]"  # text of an id that no token has, as llama.cpp's converter writes it
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
UNKNOWN_TOKEN = "<unk>"


class UnknownTokenizer(ValueError):
    """A tokenizer that only its own files can tell."""


@dataclass(frozen=True)
class GgufVocabulary:
    """The tokens and how a text becomes them.

    Attributes:
        model: `BYTE_LEVEL` BPE, or `SENTENCEPIECE` BPE with scores.
        tokens: one for each id.
        types: of the tokens.
        pre: a name in `PRE_TOKENIZATIONS`, of byte-level BPE.
        merges: pairs of tokens, best first, separated by a space, of byte-level BPE.
        scores: of the tokens, of SentencePiece: the higher, the earlier it is merged.
        adds_space: whether SentencePiece puts a space before a text.
    """

    model: str
    tokens: Sequence[str]
    types: Sequence[int]
    pre: str = ""
    merges: Sequence[str] = ()
    scores: Sequence[float] = ()
    adds_space: bool = True

    def __post_init__(self) -> None:
        if len(self.types) != len(self.tokens):
            raise ValueError(f"token_type has {len(self.types)} items, tokens {len(self.tokens)}")
        if self.model == SENTENCEPIECE and len(self.scores) != len(self.tokens):
            raise ValueError(f"scores has {len(self.scores)} items, tokens {len(self.tokens)}")

    def used(self) -> int:
        """Number of ids without the padding at the end."""
        count = len(self.tokens)
        while count and self.types[count - 1] == UNUSED and self.tokens[count - 1] == PADDING.format(index=count - 1):
            count -= 1
        return count

    def backend(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            UnknownTokenizer: of a kind that is not implemented.
            ValueError: the lists contradict each other.
        """
        tokens = list(self.tokens[: self.used()])
        if len(set(tokens)) < len(tokens):
            counts = Counter(tokens)
            raise ValueError(f"token {next(token for token in tokens if counts[token] > 1)[:60]!r} occurs twice")
        if self.model == SENTENCEPIECE:
            for token, score in zip(tokens, self.scores):
                if len(token) > LONGEST_PIECE or not math.isfinite(score):
                    raise ValueError(f"piece {token[:60]!r} has {len(token)} characters and score {score}")
            pieces = [Piece(*item) for item in zip(tokens, self.scores, self.types)]
            unknown = next((piece.text for piece in pieces if piece.kind == UNKNOWN), None)
            return sentencepiece_backend(pieces, unknown, self.adds_space)
        if self.model != BYTE_LEVEL:
            raise UnknownTokenizer(
                f"tokenizer.ggml.model {self.model!r:.40} is not implemented; expected {BYTE_LEVEL} or {SENTENCEPIECE}"
            )
        return self._byte_level(tokens)

    def _byte_level(self, tokens: list[str]) -> Tokenizer:
        kind = PRE_TOKENIZATIONS.get(ALIASES.get(self.pre, self.pre))
        if kind is None:
            raise UnknownTokenizer(
                f"tokenizer.ggml.pre {self.pre!r:.40} is not implemented; expected {', '.join(PRE_TOKENIZATIONS)}"
            )
        vocab = {token: index for index, token in enumerate(tokens)}
        pairs = []
        for merge in self.merges:
            left, _, right = merge.partition(" ")
            if not (left in vocab and right in vocab and left + right in vocab):
                raise ValueError(f"merge {merge[:60]!r} is not of tokens")
            pairs.append((left, right))
        backend = Tokenizer(models.BPE(vocab=vocab, merges=pairs, ignore_merges=kind.ignores_merges))
        if kind.normalizer is not None:
            backend.normalizer = kind.normalizer()
        backend.pre_tokenizer = kind.pre_tokenizer()
        backend.decoder = decoders.ByteLevel()
        for token, number in zip(tokens, self.types):
            if number == CONTROL:
                backend.add_special_tokens([AddedToken(token, normalized=False, special=True)])
            elif number == USER_DEFINED:
                backend.add_tokens([AddedToken(token, normalized=False)])
        return backend


def vocabulary_of(backend: Tokenizer, rows: int) -> GgufVocabulary:
    """The inverse of `GgufVocabulary.backend`.

    Args:
        rows: ids that the model has; those that no token has are filled with `PADDING`.

    Raises:
        ValueError: GGUF cannot say it.
    """
    data = json.loads(backend.to_str())
    model = data["model"]
    if model.get("type") != "BPE":
        raise ValueError(f"the tokenizer is a {model.get('type')}, GGUF is written for BPE only")
    added = backend.get_added_tokens_decoder()
    tokens = [PADDING.format(index=index) for index in range(rows)]
    types = [UNUSED] * rows
    for token, index in backend.get_vocab(with_added_tokens=True).items():
        if index >= rows:
            continue
        tokens[index] = token
        types[index] = NORMAL if index not in added else CONTROL if added[index].special else USER_DEFINED
    merges = [item if isinstance(item, str) else " ".join(item) for item in model["merges"]]
    if model.get("byte_fallback"):
        return _sentencepiece(data, tokens, types, merges)
    pre = pre_tokenization_of(backend)
    if pre is None:
        raise ValueError(
            f"the tokenizer splits texts in a way that GGUF has no name for; known: {', '.join(PRE_TOKENIZATIONS)}"
        )
    return GgufVocabulary(BYTE_LEVEL, tokens, types, pre=pre, merges=merges)


def _sentencepiece(data: Any, tokens: list[str], types: list[int], merges: list[str]) -> GgufVocabulary:
    """Scores in the order of the merges: SentencePiece merges what has the highest score first."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault(merge.replace(" ", "", 1), rank)
    scores = [-float(ranks.get(token, len(merges))) for token in tokens]
    for index, token in enumerate(tokens):
        if token == (data["model"].get("unk_token") or UNKNOWN_TOKEN):
            types[index] = UNKNOWN
        elif types[index] == NORMAL and BYTE_TOKEN.fullmatch(token):
            types[index] = BYTE
    return GgufVocabulary(SENTENCEPIECE, tokens, types, scores=scores, adds_space=_adds_space(data))


def _adds_space(data: Any) -> bool:
    """Whether a space is put before a text: by a normalizer, or by a pre-tokenizer in newer files."""
    normalizer, cut = data.get("normalizer") or {}, data.get("pre_tokenizer") or {}
    steps = normalizer.get("normalizers", [normalizer] if normalizer else [])
    if cut.get("type") == "Metaspace" and not steps:
        if cut.get("replacement") == SPACE and not cut.get("split", True):
            return cut.get("prepend_scheme") != "never"
    elif not cut:
        kinds = [step.get("type") for step in steps]
        if kinds in (["Replace"], ["Prepend", "Replace"]):
            return "Prepend" in kinds
    raise ValueError("the tokenizer normalizes texts differently from Llama's SentencePiece, which GGUF cannot express")
