"""Files next to a vocabulary: ``tokenizer_config.json``, ``special_tokens_map.json``, ``added_tokens.json``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindcoder.errors import UserError
from mindcoder.files import file_there, json_kind, read_json_object

CONFIG_FILES = ("special_tokens_map.json", "tokenizer_config.json")  # the latter takes precedence
ADDED_FILE = "added_tokens.json"
JSON_LIMIT = 16 << 20  # bytes; chat templates and added tokens are the largest parts
LARGEST_ID = 2**24


@dataclass(frozen=True)
class TokenizerFiles:
    """Contents of these files.

    Attributes:
        tokens: ``eos_token``, ``bos_token`` and ``pad_token``, as far as they are given.
        add_bos: ``add_bos_token``; None if not given.
        tokenizer_class: name of the class in transformers.
        added_tokens: tokens added after the vocabulary was built, by id.
        variables: special tokens as transformers passes them to chat templates, by name.
        is_there: whether any of the files exists.
    """

    tokens: dict[str, str] = field(default_factory=dict)
    add_bos: bool | None = None
    tokenizer_class: str = ""
    added_tokens: dict[int, str] = field(default_factory=dict)
    is_there: bool = False
    variables: dict[str, Any] = field(default_factory=dict)


def read_tokenizer_files(file: Path) -> TokenizerFiles:
    """Read the files in the folder of a vocabulary file.

    Raises:
        UserError: one of them is corrupt, or has content that transformers does not write.
    """
    values: dict[str, tuple[Any, Path]] = {}
    for name in CONFIG_FILES:
        path = file.with_name(name)
        if file_there(path):
            found = read_json_object(path, JSON_LIMIT)
            values.update({key: (value, path) for key, value in found.items() if value is not None})
    tokens = {}
    for name in ("eos_token", "bos_token", "pad_token"):
        if name in values:
            value, path = values[name]
            tokens[name] = _token(value.get("content") if isinstance(value, dict) else value, name, path)
    add_bos, path = values.get("add_bos_token", (None, file))
    if not isinstance(add_bos, bool | None):
        raise UserError(f"add_bos_token: expected true or false, found {json_kind(add_bos)}", path)
    tokenizer_class, path = values.get("tokenizer_class", ("", file))
    if not isinstance(tokenizer_class, str):
        raise UserError(f"tokenizer_class: expected a text, found {json_kind(tokenizer_class)}", path)
    added_tokens = _decoder(*values.get("added_tokens_decoder", ({}, file))) | _added(file.with_name(ADDED_FILE))
    variables = _variables({name: value for name, (value, _) in values.items()}, tokenizer_class)
    return TokenizerFiles(tokens, add_bos, tokenizer_class, added_tokens, bool(values), variables)


# Defaults of the classes in transformers 4.57.1, for folders that do not repeat them.
CLASS_TOKENS: tuple[tuple[str, dict[str, str]], ...] = (
    ("Llama", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
    ("Qwen2", dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")),
    ("GPT2", dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")),
    ("Gemma", {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}),
)
TOKEN_NAMES = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))


def _variables(values: dict[str, Any], tokenizer_class: str) -> dict[str, Any]:
    """``special_tokens_map`` of transformers; a token that is not there is no variable, so a template sees nothing."""
    defaults = next((tokens for name, tokens in CLASS_TOKENS if name in tokenizer_class), {})
    found: dict[str, Any] = {}
    for name in TOKEN_NAMES:
        text = _content(values.get(name, defaults.get(name)))
        if text:
            found[name] = text
    more = values.get("additional_special_tokens")
    if isinstance(more, list):
        found["additional_special_tokens"] = [text for item in more if (text := _content(item))]
    return found


def _content(value: Any) -> str | None:
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None


def _token(value: Any, name: str, file: Path) -> str:
    if not isinstance(value, str) or not value:
        raise UserError(f"{name}: expected a text, found {json_kind(value) if value != '' else 'an empty text'}", file)
    return value


def _decoder(values: Any, file: Path) -> dict[int, str]:
    """``added_tokens_decoder``: id (a string) -> {"content": token, ...}."""
    if not isinstance(values, dict):
        raise UserError(f"added_tokens_decoder: expected an object, found {json_kind(values)}", file)
    added_tokens = {}
    for index, item in values.items():
        name = f"added_tokens_decoder.{index[:30]}"
        if not index.isdecimal() or not index.isascii() or len(index) > 9 or int(index) > LARGEST_ID:
            raise UserError(f"{name}: expected a token id", file)
        if not isinstance(item, dict):
            raise UserError(f"{name}: expected an object, found {json_kind(item)}", file)
        added_tokens[int(index)] = _token(item.get("content"), f"{name}.content", file)
    return added_tokens


def _added(file: Path) -> dict[int, str]:
    """``added_tokens.json``: token -> id."""
    if not file_there(file):
        return {}
    added_tokens = {}
    for token, index in read_json_object(file, JSON_LIMIT).items():
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index <= LARGEST_ID:
            raise UserError(f"{token[:30]!r}: expected a token id, found {json_kind(index)} {index!r:.30}", file)
        added_tokens[index] = _token(token, "a token", file)
    return added_tokens
