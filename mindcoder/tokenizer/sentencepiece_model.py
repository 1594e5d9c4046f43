"""Llama's ``tokenizer.model`` (SentencePiece BPE) as a `tokenizers` backend."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from mindcoder.errors import UserError, single_line
from mindcoder.files import read_bytes
from mindcoder.tokenizer.special_tokens import INFILL_TOKENS

SPACE = "▁"
UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4  # SentencePiece's piece types
BPE = 2  # SentencePiece's model type
LONGEST_PIECE = 1024  # characters; every split of a piece in two is tried


class Piece(NamedTuple):
    """A piece of a vocabulary, its score, and its type."""

    text: str
    score: float
    kind: int


def read_sentencepiece(file: Path) -> Tokenizer:
    """Build the backend: the same pieces, merges ordered by the pieces' scores, byte fallback.

    Raises:
        UserError: not a SentencePiece model, or not BPE.
    """
    # MindSpore's messages load in this implementation of protobuf only, and the first import decides.
    os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    data = read_bytes(file)
    try:
        SentencePieceProcessor(model_proto=data)
        proto.ParseFromString(data)
    except Exception as error:
        raise UserError(f"is not a SentencePiece model: {single_line(str(error), 200)}", file) from None
    if proto.trainer_spec.model_type != BPE:
        raise UserError("is a SentencePiece model, but not of the BPE kind that Llama uses", file)
    _check_pieces(proto, file)
    pieces = [Piece(piece.piece, piece.score, piece.type) for piece in proto.pieces]
    return sentencepiece_backend(pieces, proto.trainer_spec.unk_piece)


def sentencepiece_backend(pieces: Sequence[Piece], unknown: str | None, adds_space: bool = True) -> Tokenizer:
    """The backend of these pieces.

    Args:
        unknown: text of the piece for what no other piece covers.
        adds_space: whether a space is put before a text.
    """
    vocab = {piece.text: index for index, piece in enumerate(pieces)}
    scores = {piece.text: piece.score for piece in pieces}
    backend = Tokenizer(
        models.BPE(
            vocab=vocab,
            merges=_merges(vocab, scores),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    replace = normalizers.Replace(" ", SPACE)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), replace] if adds_space else [replace])
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if adds_space else steps)
    marks = {mark for item in INFILL_TOKENS for mark in item.required}
    for piece in pieces:
        special = piece.kind in (UNKNOWN, CONTROL) or piece.text in marks
        if special:
            backend.add_special_tokens([AddedToken(piece.text, normalized=False, special=True)])
        elif piece.kind == USER_DEFINED:
            backend.add_tokens([AddedToken(piece.text, normalized=False)])
    return backend


def _check_pieces(proto: Any, file: Path) -> None:
    seen: set[str] = set()
    for piece in proto.pieces:
        if len(piece.piece) > LONGEST_PIECE:
            raise UserError(f"a piece has {len(piece.piece)} characters, at most {LONGEST_PIECE} are read", file)
        if piece.piece in seen:
            raise UserError(f"piece {piece.piece!r} occurs twice", file)
        if not math.isfinite(piece.score):
            raise UserError(f"piece {piece.piece!r} has the score {piece.score}", file)
        seen.add(piece.piece)


def _merges(vocab: Mapping[str, int], scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Every pair of pieces that forms a piece, best score first.

    SentencePiece merges by the score of the result, `tokenizers` by rank; pairs with the same result are ranked by the
    length of their left part.
    """
    found = [
        (left, right, scores[piece])
        for piece in vocab
        for left, right in ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        if left in vocab and right in vocab
    ]
    found.sort(key=lambda item: (item[2], len(item[0]), len(item[1])), reverse=True)
    return [(left, right) for left, right, _ in found]
