"""Converts text to token ids and back, for all kinds of vocabularies."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, normalizers, processors

from mindcoder.errors import UserError
from mindcoder.files import output_folder, output_target, replacing
from mindcoder.tokenizer.chat_template import DEFAULT, WITH_TOOLS, ChatTemplate
from mindcoder.tokenizer.infill import Repository, marks_in, texts_before
from mindcoder.tokenizer.special_tokens import InfillTokens, SpecialTokens


class CodeTokenizer:
    """A `tokenizers.Tokenizer` with the special tokens of a code model.

    Args:
        backend: the tokenizer.
        special: end, padding and beginning of text. A padding token missing from the vocabulary gets the next free id;
            by default padding is the unknown token if there is one (as in Llama), else the end of text.
        chat_template: the model's own, if one lies with the tokenizer.

    Attributes:
        eos_id, pad_id: ids.
        bos_id: id prepended to every text; None if nothing is prepended.
        infill: fill-in-the-middle tokens; None if the vocabulary has none.

    Raises:
        UserError: the vocabulary lacks the end-of-text token.
    """

    def __init__(
        self,
        backend: Tokenizer,
        special: SpecialTokens = SpecialTokens(),
        chat_template: ChatTemplate | None = None,
    ) -> None:
        self.backend = backend
        self.special = special
        self.chat_template = chat_template
        self.eos_id: int = self._known(special.eos, "ends every text")
        self.bos_id = self._known(special.bos or "", "begins every text") if special.add_bos else None
        if special.pad is None:
            unknown = backend.token_to_id("<unk>")
            self.pad_id: int = self.eos_id if unknown is None else unknown
        else:
            if backend.token_to_id(special.pad) is None:
                backend.add_special_tokens([AddedToken(special.pad, normalized=False, special=True)])
            self.pad_id = backend.token_to_id(special.pad)
        self.infill = marks_in(lambda token: backend.token_to_id(token) is not None)
        self._inner = _without_leading_space(backend) if self.infill is not None else backend

    def _known(self, token: str, purpose: str) -> int:
        index = self.backend.token_to_id(token)
        if index is None:
            raise UserError(f"the vocabulary has no {token}, which {purpose}")
        return index

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    @property
    def stop_ids(self) -> list[int]:
        """Ids that end generation."""
        marks = self.infill
        if marks is None:
            return [self.eos_id]
        ends = [self.backend.token_to_id(token) for token in ((marks.stop, *marks.ends) if marks.stop else marks.ends)]
        return [self.eos_id, *(index for index in ends if index is not None and index != self.eos_id)]

    def encode(self, text: str) -> list[int]:
        """Token ids, with the beginning-of-text token if the model expects it; special tokens in the text become
        their ids.
        """
        ids = self.backend.encode(text, add_special_tokens=False).ids
        return ids if self.bos_id is None else [self.bos_id, *ids]

    def encode_rendered(self, text: str) -> list[int]:
        """Token ids of what a chat template has rendered: it writes the beginning-of-text token itself."""
        return self.backend.encode(text, add_special_tokens=False).ids

    def offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids as `encode_rendered`, and the characters (begin, end) that each of them covers."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    @cached_property
    def added_texts(self) -> tuple[str, ...]:
        """Texts of the tokens that are taken whole wherever they stand, such as ``<|im_end|>``."""
        return tuple(token.content for token in self.backend.get_added_tokens_decoder().values())

    def encode_at(self, text: str, position: int) -> tuple[list[int], int]:
        """Token ids, and the index of the token that contains the character at ``position`` (number of tokens if
        none).
        """
        encoding = self.backend.encode(text, add_special_tokens=False)
        token = encoding.char_to_token(position) if position < len(text) else None
        boundary = len(encoding.ids) if token is None else token
        if self.bos_id is None:
            return encoding.ids, boundary
        return [self.bos_id, *encoding.ids], boundary + 1

    def infill_marks(self) -> InfillTokens:
        """The marks of a gap.

        Raises:
            UserError: the vocabulary has none.
        """
        if self.infill is None:
            raise UserError("this tokenizer has no fill-in-the-middle tokens (<fim_prefix>, ▁<PRE> or similar)")
        return self.infill

    def encode_infill(self, prefix: str, suffix: str, repository: Repository = Repository()) -> list[int]:
        """Prompt for the text between ``prefix`` and ``suffix``, in the order of the model's marks.

        Bavarian et al. 2022; for Code Llama the ids of Meta's ``infilling_prompt_tokens``.

        Args:
            repository: related files and names, which come first.

        Raises:
            UserError: the vocabulary has no fill-in-the-middle tokens.
        """
        marks = self.infill_marks()
        begin, gap = (self._known(mark, "marks a gap") for mark in (marks.prefix, marks.suffix))
        middle = [self._known(marks.middle, "marks a gap")] if marks.middle else []
        context, inside = texts_before(marks, repository)
        before = self.backend.encode(inside + prefix, add_special_tokens=False).ids
        after = self._inner.encode(suffix, add_special_tokens=False).ids
        start = [] if self.bos_id is None else [self.bos_id]
        start += self.backend.encode(context, add_special_tokens=False).ids
        if marks.order == "spm":
            return [*start, gap, *after, begin, *before, *middle]
        return [*start, begin, *before, gap, *after, *middle]

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """Decode ``ids``; incomplete UTF-8 becomes U+FFFD."""
        return self.backend.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def save(self, directory: str | Path) -> None:
        """Write tokenizer.json, vocab.json and merges.txt, and the config that transformers reads; all or nothing.

        Raises:
            UserError: one of these names exists and is not a regular file, or ``directory`` cannot be written.
            NoSpaceError: the disk is full; a folder that was made here is removed.
        """
        backend = Tokenizer.from_str(self.backend.to_str())
        if self.bos_id is not None:
            backend.post_processor = begin_with(self.special.bos or "", self.bos_id)
        unknown = "<unk>" if backend.token_to_id("<unk>") is not None else self.special.eos
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": self.special.eos,
            "bos_token": self.special.bos or self.special.eos,
            "unk_token": unknown,
            "pad_token": backend.id_to_token(self.pad_id),
            "clean_up_tokenization_spaces": False,
        }
        if self.chat_template is not None and not self.chat_template.problem:
            config = _with_template(config, self.chat_template)
        with output_folder(Path(directory)) as folder, tempfile.TemporaryDirectory(prefix=".", dir=folder) as staging:
            backend.save(f"{staging}/tokenizer.json")
            backend.model.save(staging)
            Path(staging, "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            finished = sorted(Path(staging).iterdir())
            for file in finished:
                output_target(folder / file.name)
            for file in finished:
                with replacing(folder / file.name) as stream:
                    stream.write(file.read_bytes())


def _with_template(config: dict[str, Any], template: ChatTemplate) -> dict[str, Any]:
    """The settings with a chat template, and the special tokens just as the template sees them."""
    tokens = {name: value for name, value in config.items() if not name.endswith("_token") or name == "pad_token"}
    if template.with_tools is None:
        written: Any = template.text
    else:
        named = {DEFAULT: template.text, WITH_TOOLS: template.with_tools}
        written = [{"name": name, "template": text} for name, text in named.items()]
    return {**tokens, "eos_token": config["eos_token"], **template.variables, "chat_template": written}


def begin_with(token: str, index: int) -> processors.TemplateProcessing:
    """Post-processor with which `tokenizers` and transformers prepend a token to every text."""
    return processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B:1", special_tokens=[(token, index)]
    )


def _without_leading_space(backend: Tokenizer) -> Tokenizer:
    """A copy that does not add SentencePiece's leading space, for text in the middle of another."""
    data = json.loads(backend.to_str())
    metaspace = (data.get("pre_tokenizer") or {}).get("type") == "Metaspace"
    steps = (data.get("normalizer") or {}).get("normalizers", [data.get("normalizer") or {}])
    if not metaspace and not any(step.get("type") == "Prepend" for step in steps):
        return backend
    inner = Tokenizer.from_str(backend.to_str())
    inner.normalizer = normalizers.Replace(" ", "▁")
    inner.pre_tokenizer = None  # type: ignore[assignment]
    return inner


__all__ = ["CodeTokenizer", "InfillTokens"]
