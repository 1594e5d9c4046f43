"""Loads a tokenizer from whatever files a model has."""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from mindcoder.errors import UserError, single_line
from mindcoder.files import file_there, read_text
from mindcoder.locations import hub_hint
from mindcoder.tokenizer.bpe import check_ids, read_vocab_and_merges
from mindcoder.tokenizer.chat_template import read_chat_template
from mindcoder.tokenizer.code_tokenizer import CodeTokenizer
from mindcoder.tokenizer.special_tokens import END_OF_TEXT, PAD, SpecialTokens
from mindcoder.tokenizer.tokenizer_files import TokenizerFiles, read_tokenizer_files

FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")  # order of preference if a folder has several


def load_tokenizer(
    vocab_file: str | Path | None = None,
    merge_file: str | Path | None = None,
    tokenizer_file: str | Path | None = None,
    pad_token: str | None = None,
    add_bos: bool | None = None,
) -> CodeTokenizer:
    """Load ``tokenizer.json``, Llama's ``tokenizer.model``, or ``vocab.json`` + ``merges.txt``.

    Args:
        vocab_file: any of them, or a folder that contains one.
        merge_file: ``merges.txt``, if ``vocab_file`` is ``vocab.json``.
        tokenizer_file: ``tokenizer.json`` or ``tokenizer.model``; overrides ``vocab_file``.
        pad_token: padding token; by default that of ``tokenizer_config.json`` beside the file, else ``[PAD]`` for
            StarCoder's vocabulary (added with the next free id) and ``<unk>`` for Llama's.
        add_bos: prepend the beginning-of-text token to every text; by default as ``tokenizer_config.json`` says.

    Raises:
        UserError: a file is missing or corrupt, or does not match another.
    """
    file = _main_file(vocab_file, merge_file, tokenizer_file)
    if file.name.endswith(".model"):
        from mindcoder.tokenizer.sentencepiece_model import read_sentencepiece

        backend = read_sentencepiece(file)
    elif merge_file is not None or file.name == "vocab.json":
        backend = read_vocab_and_merges(file, Path(merge_file or file.with_name("merges.txt")))
    else:
        backend = read_tokenizer_json(file)
    files = read_tokenizer_files(file)
    _append_added_tokens(backend, file, files)
    try:
        special = _special_tokens(backend, files, pad_token, add_bos)
        template = read_chat_template(file.parent, files.variables or _as_variables(special))
        tokenizer = CodeTokenizer(backend, special, template)
    except UserError as error:
        raise error if error.file is not None else UserError(str(error), file) from None
    return tokenizer


def read_tokenizer_json(file: Path) -> Tokenizer:
    """The backend of a ``tokenizer.json``.

    Raises:
        UserError: it is not one, or its ids are not valid.
    """
    text = read_text(file)
    try:
        backend = Tokenizer.from_str(text)
        backend.no_truncation()  # a file may keep its author's: transformers sets both at every call
        backend.no_padding()
        ids = backend.get_vocab(with_added_tokens=True)
        backend.encode("a b", add_special_tokens=True)
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # the library's panics do not derive from Exception
        reason = single_line(str(error), 200)
        raise UserError(
            f"is not a tokenizer.json ({reason}); a vocab.json needs its merges.txt beside it (--merge_file)", file
        ) from None
    check_ids(ids, file)
    return backend


def find_tokenizer(folder: Path) -> Path | None:
    """The tokenizer file of a folder, or None."""
    return next((folder / name for name in FILES if file_there(folder / name)), None)


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
    if not file_there(path):
        raise UserError(f"no such tokenizer file{hub_hint(given)}", path)
    return path


def _append_added_tokens(backend: Tokenizer, file: Path, files: TokenizerFiles) -> None:
    """Add tokens that were added after the vocabulary was built, such as WizardCoder-Python's ``[PAD]`` as 32000."""
    for index, token in sorted(files.added_tokens.items()):
        if backend.token_to_id(token) is None:
            backend.add_special_tokens([AddedToken(token, normalized=False, special=True)])
            if backend.token_to_id(token) != index:
                raise UserError(
                    f"token {token!r} should have id {index} but the vocabulary ends before it at "
                    f"{backend.token_to_id(token)}",
                    file,
                )


def _as_variables(special: SpecialTokens) -> dict[str, str]:
    """What a chat template sees where no file names the special tokens."""
    tokens = {"bos_token": special.bos, "eos_token": special.eos, "pad_token": special.pad}
    return {name: token for name, token in tokens.items() if token}


def _special_tokens(
    backend: Tokenizer, files: TokenizerFiles, pad_token: str | None, add_bos: bool | None
) -> SpecialTokens:
    starcoder = backend.token_to_id(END_OF_TEXT) is not None
    eos = files.tokens.get("eos_token") or (END_OF_TEXT if starcoder else "</s>")
    bos = files.tokens.get("bos_token") or (eos if starcoder else "<s>")
    if add_bos is None:
        if "Llama" in files.tokenizer_class or (not files.is_there and not starcoder):
            add_bos = True if files.add_bos is None else files.add_bos
        else:
            begun = backend.encode("a", add_special_tokens=True).ids
            add_bos = bool(begun) and begun[0] == backend.token_to_id(bos)
    return SpecialTokens(eos, pad_token or files.tokens.get("pad_token") or (PAD if starcoder else None), bos, add_bos)
