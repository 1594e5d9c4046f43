"""How byte-level BPE tokenizers cut a text before they merge bytes, under the names that GGUF has for it
(``tokenizer.ggml.pre``; the expressions are those of the published tokenizer.json, and of llama.cpp's llama-vocab.cpp).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

# A text on which any two of the kinds differ.
PROBE = (
    "def f(x1, y22):\n\treturn 12345 + x1*3.14e-10  # it's we'LL 'tis\r\n\r\n   \n  x = 'naïve café' \n"
    "数字一二三 和 ２３ ½ x² a\u0301 안녕 мир, \U0001f600!!  ?? <- -> \u00a0 \u3000 end   "
)


@dataclass(frozen=True)
class PreTokenization:
    """One of them.

    Attributes:
        pre_tokenizer: makes it.
        normalizer: what is done to the text before; None: nothing.
        ignores_merges: whether a word that is a token is taken whole, whatever the merges say.
        adds_bos: whether llama.cpp begins texts with the beginning-of-text token where a file does not say.
    """

    pre_tokenizer: Callable[[], Any]
    normalizer: Callable[[], Any] | None = None
    ignores_merges: bool = False
    adds_bos: bool = False


def _split(expression: str) -> Any:
    return pre_tokenizers.Split(Regex(expression), "isolated")


def _bytes(use_regex: bool = False) -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def _expression(digits: str) -> str:
    """Of GPT-4's kind: words with what precedes them, ``digits``, punctuation, line ends, spaces."""
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + digits
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


def _starcoder() -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _bytes(use_regex=True)])


def _qwen2() -> Any:
    return pre_tokenizers.Sequence([_split(_expression(r"\p{N}")), _bytes()])


def _llama_bpe() -> Any:
    return pre_tokenizers.Sequence([_split(_expression(r"\p{N}{1,3}")), _bytes()])


def _deepseek_coder() -> Any:
    expressions = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+")
    digits = pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Sequence([*map(_split, expressions), digits, _bytes()])


PRE_TOKENIZATIONS = {
    "starcoder": PreTokenization(_starcoder),
    "gpt-2": PreTokenization(lambda: _bytes(use_regex=True)),
    "qwen2": PreTokenization(_qwen2, normalizers.NFC),
    "llama-bpe": PreTokenization(_llama_bpe, ignores_merges=True, adds_bos=True),
    "deepseek-coder": PreTokenization(_deepseek_coder),
}
# Other names of the same ones.
ALIASES = {
    "refact": "starcoder",
    "smollm": "starcoder",
    "codeshell": "starcoder",
    "gpt2": "gpt-2",
    "llama3": "llama-bpe",
    "llama-v3": "llama-bpe",
    "deepseek-r1-qwen": "qwen2",
}


def pre_tokenization_of(backend: Tokenizer) -> str | None:
    """Name of the one that a tokenizer uses, judged by what it makes of `PROBE`; None if it is another."""
    found = _cut(backend.normalizer, backend.pre_tokenizer)
    for name, kind in PRE_TOKENIZATIONS.items():
        normalizer = None if kind.normalizer is None else kind.normalizer()
        if found is not None and found == _cut(normalizer, kind.pre_tokenizer()):
            return name
    return None


def _cut(normalizer: Any, pre_tokenizer: Any) -> list[str] | None:
    if pre_tokenizer is None:
        return None
    text = PROBE if normalizer is None else normalizer.normalize_str(PROBE)
    return [piece for piece, _ in pre_tokenizer.pre_tokenize_str(text)]
