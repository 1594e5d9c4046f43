"""Tokenizer, special tokens and chat template of a model as metadata of a GGUF file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mindcoder.checkpoint.end_tokens import end_tokens
from mindcoder.checkpoint.gguf.text_keys import (
    ADD_BOS,
    ADD_SPACE,
    CHAT_TEMPLATE,
    END_NAMES,
    MERGES,
    MODEL,
    NO_VOCABULARY,
    PRE,
    SCORES,
    TEXT_FORMAT,
    TOKENS,
    TYPES,
    token_key,
)
from mindcoder.checkpoint.stored_weights import Weights
from mindcoder.data.chat_template import chat_template
from mindcoder.data.models_template import read_models_template
from mindcoder.data.prompt import OWN
from mindcoder.errors import UserError
from mindcoder.tokenizer import CodeTokenizer, load_tokenizer
from mindcoder.tokenizer.fingerprint import fingerprint
from mindcoder.tokenizer.gguf_vocabulary import SENTENCEPIECE, GgufVocabulary, vocabulary_of
from mindcoder.tokenizer.load import FILES

# Further tokens by their texts: name in the key -> texts of the families that have one.
BY_TEXT = {
    "unknown": ("<unk>",),
    "fim_pad": ("<fim_pad>", "<|fim_pad|>"),
    "fim_rep": ("<reponame>", "<repo_name>", "<|repo_name|>"),
    "fim_sep": ("<file_sep>", "<|file_sep|>", "<filename>"),
}


@dataclass(frozen=True)
class TextMetadata:
    """What a file says of texts.

    Attributes:
        metadata: values by key.
        tokenizer: that they describe; None if there is none.
        stops: texts of the tokens that end an answer.
        notes: what the user has to know, a line each.
    """

    metadata: Mapping[str, Any]
    tokenizer: CodeTokenizer | None = None
    stops: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def text_metadata(weights: Weights) -> TextMetadata:
    """The keys of the tokenizer that lies with the weights.

    Raises:
        UserError: the tokenizer is damaged, another model's, or GGUF cannot say it.
    """
    file = next((weights.companions[name] for name in FILES if name in weights.companions), None)
    rows = weights.config.vocab_size
    recorded = {TEXT_FORMAT: json.dumps(weights.text_format.as_dict())} if weights.text_format else {}
    if file is None:
        config = weights.config
        told = {"bos": config.bos_token_id, "eos": config.eos_token_id, "padding": config.pad_token_id}
        kept = {token_key(name): index for name, index in told.items() if index is not None and index < rows}
        return TextMetadata(
            {MODEL: NO_VOCABULARY[0], **kept, **recorded},
            notes=("no tokenizer lies with the weights: llama.cpp will take token ids only",),
        )
    tokenizer = load_tokenizer(file)
    vocabulary = _vocabulary(tokenizer, rows, file)
    values: dict[str, Any] = {MODEL: vocabulary.model}
    if vocabulary.model == SENTENCEPIECE:
        values |= {SCORES: list(vocabulary.scores), ADD_SPACE: vocabulary.adds_space}
    else:
        values |= {PRE: vocabulary.pre, MERGES: list(vocabulary.merges)}
    ids = _special_ids(tokenizer, weights)
    values |= {TOKENS: list(vocabulary.tokens), TYPES: list(vocabulary.types)}
    values |= {token_key(name): index for name, index in ids.items() if index is not None and index < rows}
    values[ADD_BOS] = tokenizer.bos_id is not None
    template = _template(weights, tokenizer)
    if template is not None:
        values[CHAT_TEMPLATE] = template
    ends = dict.fromkeys(ids.get(name) for name in END_NAMES)
    stops = tuple(vocabulary.tokens[index] for index in ends if index is not None and index < rows)
    return TextMetadata({**values, **recorded}, tokenizer, stops)


def _vocabulary(tokenizer: CodeTokenizer, rows: int, file: Any) -> GgufVocabulary:
    """The vocabulary; checks that it gives the same ids when it is read back."""
    beyond = [token for token, index in tokenizer.backend.get_vocab(with_added_tokens=True).items() if index >= rows]
    if [token for token in beyond if token != tokenizer.special.pad]:
        raise UserError(f"the tokenizer has {tokenizer.vocab_size} tokens, the model {rows}: not each other's", file)
    try:
        vocabulary = vocabulary_of(tokenizer.backend, rows)
        again = CodeTokenizer(vocabulary.backend(), tokenizer.special)
    except ValueError as error:
        raise UserError(f"cannot be written as GGUF: {error}", file) from None
    if fingerprint(again) != fingerprint(tokenizer):
        raise UserError("cannot be written as GGUF: read from there, this tokenizer would give different ids", file)
    return vocabulary


def _special_ids(tokenizer: CodeTokenizer, weights: Weights) -> dict[str, int | None]:
    find, marks = tokenizer.backend.token_to_id, tokenizer.infill
    others = sorted(end_tokens(weights) - {tokenizer.eos_id})
    ids: dict[str, int | None] = {
        "bos": None if tokenizer.special.bos is None else find(tokenizer.special.bos),
        "eos": tokenizer.eos_id,
        "padding": tokenizer.pad_id,
        **dict(zip(("eot", "eom"), others)),
    }
    if marks is not None:
        ids |= {"fim_pre": find(marks.prefix), "fim_suf": find(marks.suffix), "fim_mid": find(marks.middle)}
    for name, texts in BY_TEXT.items():
        ids[name] = next((index for index in map(find, texts) if index is not None), None)
    return ids


def _template(weights: Weights, tokenizer: CodeTokenizer) -> str | None:
    """The template that the model was trained with here, else its own."""
    trained = weights.text_format.template
    if trained not in (None, OWN):
        assert trained is not None
        return chat_template(trained, tokenizer.bos_id is not None)
    found = read_models_template(weights.companions)
    return None if found is None else found[0]
