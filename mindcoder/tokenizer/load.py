"""A tokenizer from whatever files a model comes with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from mindcoder.errors import UserError
from mindcoder.tokenizer.bpe import read_vocab_and_merges
from mindcoder.tokenizer.code_tokenizer import CodeTokenizer
from mindcoder.tokenizer.special_tokens import END_OF_TEXT, PAD, SpecialTokens

FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")  # in this order where a folder has several


def load_tokenizer(
    vocab_file: str | Path | None = None,
    merge_file: str | Path | None = None,
    tokenizer_file: str | Path | None = None,
    pad_token: str | None = None,
    add_bos: bool | None = None,
) -> CodeTokenizer:
    """Load ``tokenizer.json``, Llama's ``tokenizer.model``, or ``vocab.json`` + ``merges.txt``.

    Args:
        vocab_file: any of them, or a folder that holds one.
        merge_file: ``merges.txt``, where ``vocab_file`` is ``vocab.json``.
        tokenizer_file: ``tokenizer.json`` or ``tokenizer.model``; wins over ``vocab_file``.
        pad_token: padding; by default what ``tokenizer_config.json`` beside the file says, else ``[PAD]`` for
            StarCoder's vocabulary (added with the next free id) and ``<unk>`` for Llama's.
        add_bos: begin every text with the begin token; by default as ``tokenizer_config.json`` says.

    Raises:
        UserError: a file is missing, broken, or does not belong to another.
    """
    file = _main_file(vocab_file, merge_file, tokenizer_file)
    if file.name.endswith(".model"):
        from mindcoder.tokenizer.sentencepiece_model import read_sentencepiece

        backend = read_sentencepiece(file)
    elif merge_file is not None or file.name == "vocab.json":
        backend = read_vocab_and_merges(file, Path(merge_file or file.with_name("merges.txt")))
    else:
        try:
            backend = Tokenizer.from_file(str(file))
        except Exception as error:
            raise UserError(
                f"is no tokenizer.json ({error}); a vocab.json needs its merges.txt beside it (--merge_file)", file
            ) from None
    beside = _config_beside(file)
    _add_late_tokens(backend, file, beside)
    return CodeTokenizer(backend, _special_tokens(backend, beside, pad_token, add_bos))


def find_tokenizer(folder: Path) -> Path | None:
    """The tokenizer file of a folder, if it has one."""
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def _main_file(vocab_file: str | Path | None, merge_file: str | Path | None, tokenizer_file: str | Path | None) -> Path:
    given = tokenizer_file or vocab_file
    if given is None:
        raise UserError(
            "a tokenizer is needed: --vocab_file (tokenizer.json, tokenizer.model, or vocab.json with --merge_file), "
            "or processor.tokenizer.vocab_file in the YAML file"
        )
    path = Path(given)
    if path.is_dir():
        found = find_tokenizer(path)
        if found is None:
            raise UserError(f"holds none of {', '.join(FILES)}", path)
        return found
    if not path.is_file():
        raise UserError("no such tokenizer file", path)
    return path


def _config_beside(file: Path) -> dict[str, Any]:
    """``tokenizer_config.json``, over ``special_tokens_map.json``, of the same folder."""
    values: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = file.with_name(name)
        if path.is_file():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise UserError(f"is not valid JSON: {error}", path) from None
            values.update({key: value for key, value in found.items() if value is not None})
    return values


def _add_late_tokens(backend: Tokenizer, file: Path, beside: dict[str, Any]) -> None:
    """Tokens that were added after the vocabulary was made: WizardCoder-Python's ``[PAD]`` as 32000."""
    late: dict[int, str] = {
        int(index): item["content"] for index, item in beside.get("added_tokens_decoder", {}).items()
    }
    added = file.with_name("added_tokens.json")
    if added.is_file():
        late.update({index: token for token, index in json.loads(added.read_text(encoding="utf-8")).items()})
    for index, token in sorted(late.items()):
        if backend.token_to_id(token) is None:
            backend.add_special_tokens([AddedToken(token, normalized=False, special=True)])
            if backend.token_to_id(token) != index:
                raise UserError(
                    f"token {token!r} should have id {index} but the vocabulary ends before it at "
                    f"{backend.token_to_id(token)}",
                    file,
                )


def _special_tokens(
    backend: Tokenizer, beside: dict[str, Any], pad_token: str | None, add_bos: bool | None
) -> SpecialTokens:
    def named(key: str) -> str | None:
        value = beside.get(key)
        return value.get("content") if isinstance(value, dict) else value

    starcoder = backend.token_to_id(END_OF_TEXT) is not None
    eos = named("eos_token") or (END_OF_TEXT if starcoder else "</s>")
    bos = named("bos_token") or (eos if starcoder else "<s>")
    if add_bos is None:
        if "Llama" in beside.get("tokenizer_class", "") or (not beside and not starcoder):
            add_bos = bool(beside.get("add_bos_token", True))
        else:
            begun = backend.encode("a", add_special_tokens=True).ids
            add_bos = bool(begun) and begun[0] == backend.token_to_id(bos)
    return SpecialTokens(eos, pad_token or named("pad_token") or (PAD if starcoder else None), bos, add_bos)
