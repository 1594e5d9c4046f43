"""Tokenizer, special tokens and chat template of a GGUF file, as the files that other formats have for them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindcoder.checkpoint.companions import GENERATION_FILE
from mindcoder.checkpoint.gguf.text_keys import (
    ADD_BOS,
    ADD_SPACE,
    CHAT_TEMPLATE,
    END_NAMES,
    HARMLESS,
    MERGES,
    MODEL,
    NO_VOCABULARY,
    ONLY,
    PRE,
    SCORES,
    TEXT_FORMAT,
    TOKENS,
    TYPES,
    TokenIds,
    token_key,
)
from mindcoder.checkpoint.gguf.unpacked import already_unpacked, unpacked
from mindcoder.data.text_format import UNKNOWN, TextFormat, text_format_of
from mindcoder.errors import UserError, single_line
from mindcoder.families.config_fields import shown
from mindcoder.files import parse_json
from mindcoder.tokenizer.code_tokenizer import begin_with
from mindcoder.tokenizer.gguf_vocabulary import SENTENCEPIECE, GgufVocabulary, UnknownTokenizer
from mindcoder.tokenizer.pre_tokenization import ALIASES, PRE_TOKENIZATIONS

LARGEST_VOCABULARY = 1 << 24  # of files without a tokenizer
NAMES = ("bos", "eos", "padding", "eot", "eom")

log = logging.getLogger(__name__)


def token_ids(metadata: Mapping[str, Any], file: Path) -> TokenIds:
    """Those that a network's configuration has.

    Raises:
        UserError: one of them is not a token of the file.
    """
    ids = _ids(metadata, file)
    return TokenIds(ids.get("bos"), ids.get("eos"), ids.get("padding"))


def text_files(metadata: Mapping[str, Any], file: Path) -> dict[str, Path]:
    """``tokenizer.json``, ``tokenizer_config.json`` and ``generation_config.json``; nothing where the file has no
    tokenizer, or one that is not implemented, which the log says.

    Raises:
        UserError: a key is unknown, or the lists are damaged.
    """
    for key, value in metadata.items():
        if key in ONLY and value != ONLY[key]:
            raise UserError(f"{key} {shown(value)} is not implemented; expected {shown(ONLY[key])}", file)
        known = key in (*_KEYS, *HARMLESS, *ONLY) or key.startswith(f"{CHAT_TEMPLATE}.")
        if key.startswith("tokenizer.") and not known:
            raise UserError(f"{shown(key)}: whether this key changes the tokenizer is not known", file)
    if metadata.get(MODEL) in (None, *NO_VOCABULARY):
        return {}
    unpacked_before = already_unpacked(file)
    if unpacked_before:
        return unpacked_before
    vocabulary = _vocabulary(metadata, file)
    try:
        backend = vocabulary.backend()
    except UnknownTokenizer as error:
        log.warning("%s: %s: give the model's tokenizer with --tokenizer", file, error)
        return {}
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # the library's panics do not derive from Exception
        raise UserError(f"its tokenizer is damaged: {single_line(str(error), 200)}", file) from None
    ids = _ids(metadata, file)
    texts = {name: vocabulary.tokens[index] for name, index in ids.items() if index < vocabulary.used()}
    adds_bos = metadata.get(ADD_BOS, _adds_bos(vocabulary))
    if adds_bos and "bos" in texts:
        backend.post_processor = begin_with(texts["bos"], ids["bos"])
    unknown = next((text for text, kind in zip(vocabulary.tokens, vocabulary.types) if kind == 2), None)
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": texts.get("bos"),
        "eos_token": texts.get("eos"),
        "unk_token": unknown,
        "pad_token": texts.get("padding"),
        "add_bos_token": bool(adds_bos),
        "clean_up_tokenization_spaces": False,
        "chat_template": _text(metadata, CHAT_TEMPLATE, file),
    }
    ends = [ids[name] for name in END_NAMES if name in ids]
    stops = {"bos_token_id": ids.get("bos"), "eos_token_id": ends, "pad_token_id": ids.get("padding")}
    return unpacked(
        file,
        {
            "tokenizer.json": backend.to_str(),
            "tokenizer_config.json": _json(settings),
            GENERATION_FILE: _json({key: value for key, value in stops.items() if value not in (None, [])}),
        },
    )


def text_format(metadata: Mapping[str, Any], file: Path) -> TextFormat:
    """Prompt template and tokenizer that `convert` has recorded.

    Raises:
        UserError: the record is damaged.
    """
    text = _text(metadata, TEXT_FORMAT, file)
    if text is None:
        return UNKNOWN
    values = parse_json(text, file, what=TEXT_FORMAT)
    if not isinstance(values, dict):
        raise UserError(f"{TEXT_FORMAT}: expected an object", file)
    return text_format_of(values, file)


_KEYS = (MODEL, PRE, TOKENS, TYPES, MERGES, SCORES, ADD_BOS, ADD_SPACE, CHAT_TEMPLATE, *map(token_key, NAMES))


def _vocabulary(metadata: Mapping[str, Any], file: Path) -> GgufVocabulary:
    tokens = _list(metadata, TOKENS, str, file)
    model = _text(metadata, MODEL, file) or ""
    adds_space = metadata.get(ADD_SPACE, True)
    try:
        return GgufVocabulary(
            model,
            tokens,
            _list(metadata, TYPES, int, file) or [1] * len(tokens),
            _text(metadata, PRE, file) or "",
            _list(metadata, MERGES, str, file),
            _list(metadata, SCORES, float, file),
            bool(adds_space),
        )
    except ValueError as error:
        raise UserError(f"its tokenizer is damaged: {error}", file) from None


def _adds_bos(vocabulary: GgufVocabulary) -> bool:
    """What llama.cpp does where the file does not say."""
    if vocabulary.model == SENTENCEPIECE:
        return True
    kind = PRE_TOKENIZATIONS.get(ALIASES.get(vocabulary.pre, vocabulary.pre))
    return kind is not None and kind.adds_bos


def _ids(metadata: Mapping[str, Any], file: Path) -> dict[str, int]:
    count, found = len(_list(metadata, TOKENS, str, file)) or LARGEST_VOCABULARY, {}
    for name in NAMES:
        index = metadata.get(token_key(name))
        if index is None:
            continue
        if not isinstance(index, int) or isinstance(index, bool) or not -1 <= index < count:
            raise UserError(f"{token_key(name)} {shown(index)}: expected one of {count} tokens", file)
        if index >= 0:
            found[name] = index
    return found


def _list(metadata: Mapping[str, Any], key: str, kind: type, file: Path) -> list[Any]:
    values = metadata.get(key, [])
    if not isinstance(values, list) or (values and not isinstance(values[0], kind)):
        raise UserError(f"{key}: expected a list of {kind.__name__}, found {shown(values)}", file)
    return values


def _text(metadata: Mapping[str, Any], key: str, file: Path) -> str | None:
    value = metadata.get(key)
    if value is not None and not isinstance(value, str):
        raise UserError(f"{key}: expected a text, found {shown(value)}", file)
    return value


def _json(values: Mapping[str, Any]) -> str:
    given = {key: value for key, value in values.items() if value is not None}
    return json.dumps(given, indent=2, ensure_ascii=False) + "\n"
