"""Metadata keys about texts: tokenizer, special tokens, chat template."""

from __future__ import annotations

from typing import NamedTuple

PREFIX = "tokenizer.ggml."
MODEL, PRE, TOKENS, TYPES = (f"{PREFIX}{name}" for name in ("model", "pre", "tokens", "token_type"))
MERGES, SCORES = (f"{PREFIX}{name}" for name in ("merges", "scores"))
ADD_BOS, ADD_SPACE = f"{PREFIX}add_bos_token", f"{PREFIX}add_space_prefix"
CHAT_TEMPLATE = "tokenizer.chat_template"
TEXT_FORMAT = "mindcoder.text_format"  # JSON of `mindcoder.data.text_format.TextFormat.as_dict`
NO_VOCABULARY = ("no_vocab", "none")  # values of MODEL in files without a tokenizer


def token_key(name: str) -> str:
    """Key of a special token's id: ``bos``, ``eos``, ``unknown``, ``padding``, ``fim_pre`` and so on."""
    return f"{PREFIX}{name}_token_id"


class TokenIds(NamedTuple):
    """Ids of special tokens, None where the file has none."""

    bos: int | None = None
    eos: int | None = None
    padding: int | None = None


# Special tokens that end an answer, beside eos: end of turn, end of message.
END_NAMES = ("eos", "eot", "eom")

# Keys without effect on ids or weights here. FIM tokens are found by their texts; texts are never ended by a token
# here; huggingface.json repeats the tokenizer; the other templates are those of tools.
HARMLESS = {
    *(token_key(name) for name in ("unknown", "seperator", "separator", "sep", "mask", "cls", "fim_pre", "fim_suf")),
    *(token_key(name) for name in ("fim_mid", "fim_pad", "fim_rep", "fim_sep", "prefix", "suffix", "middle")),
    f"{PREFIX}add_eos_token",
    f"{PREFIX}add_sep_token",
    f"{PREFIX}token_type_count",
    "tokenizer.huggingface.json",
    "tokenizer.chat_templates",
}
# Keys of which only this value is implemented.
ONLY = {f"{PREFIX}remove_extra_whitespaces": False}
