"""Llama's ``tokenizer.model`` (SentencePiece BPE) as a `tokenizers` backend."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from mindcoder.errors import UserError, single_line
from mindcoder.files import read_bytes
from mindcoder.tokenizer.special_tokens import INFILL_TOKENS

SPACE = "▁"
UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4  # SentencePiece's piece types
BPE = 2  # SentencePiece's model type
LONGEST_PIECE = 1024  # characters; every split of a piece in two is tried


def read_sentencepiece(file: Path) -> Tokenizer:
    """Build the backend: the same pieces, merges ordered by the pieces' scores, byte fallback.

    Raises:
        UserError: not a SentencePiece model, or not BPE.
    """
    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    data = read_bytes(file)
    try:
        SentencePieceProcessor(model_proto=data)
        proto.ParseFromString(data)
    except Exception as error:
        raise UserError(f"is no SentencePiece model: {single_line(str(error), 200)}", file) from None
    if proto.trainer_spec.model_type != BPE:
        raise UserError("is a SentencePiece model of another kind than BPE, which Llama uses", file)
    _check_pieces(proto, file)
    vocab = {piece.piece: index for index, piece in enumerate(proto.pieces)}
    scores = {piece.piece: piece.score for piece in proto.pieces}
    backend = Tokenizer(
        models.BPE(
            vocab=vocab,
            merges=_merges(vocab, scores),
            unk_token=proto.trainer_spec.unk_piece,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    backend.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    marks = {mark for item in INFILL_TOKENS for mark in (item.prefix, item.suffix, item.middle, item.stop)}
    for piece in proto.pieces:
        special = piece.type in (UNKNOWN, CONTROL) or piece.piece in marks
        if special:
            backend.add_special_tokens([AddedToken(piece.piece, normalized=False, special=True)])
        elif piece.type == USER_DEFINED:
            backend.add_tokens([AddedToken(piece.piece, normalized=False)])
    return backend


def _check_pieces(proto: Any, file: Path) -> None:
    seen: set[str] = set()
    for piece in proto.pieces:
        if len(piece.piece) > LONGEST_PIECE:
            raise UserError(f"a piece has {len(piece.piece)} characters, at most {LONGEST_PIECE} are read", file)
        if piece.piece in seen:
            raise UserError(f"piece {piece.piece!r} is there twice", file)
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
