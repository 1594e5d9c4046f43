"""Identifies tokenizers by their behavior, whatever files they were read from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from mindcoder.tokenizer.code_tokenizer import CodeTokenizer
from mindcoder.tokenizer.special_tokens import PAD

DIGITS = 16  # hex digits of the hash that are kept
PROBED_IDS = 2000  # vocabulary entries whose text is encoded again
PADDING = (PAD, "<pad>")
PROBE = (
    "def fib(n: int) -> int:\n    return n if n < 2 else fib(n - 1) + fib(n - 2)  # 12345678\n",
    "#include <vector>\nint main(int argc, char **argv) {\n\treturn std::vector<int>{1, 2, 3}.size();\n}\n",
    "Below is an instruction that describes a task.\n\n### Response: It doesn't matter, we'll see.  ",
    "写一个函数，返回两个数的和。 Größe, naïve, 3.14e-10, \U0001f600\r\n\t\t",
)


@dataclass(frozen=True)
class TokenizerPrint:
    """Identity of a tokenizer.

    Attributes:
        vocab_size: number of ids, not counting a padding token that was merely appended.
        sha256: first digits of a hash of its behavior.
        adds_bos: whether every text begins with the beginning-of-text token.
    """

    vocab_size: int
    sha256: str
    adds_bos: bool = False

    def __str__(self) -> str:
        return f"{self.vocab_size} ids, fingerprint {self.sha256}"


def fingerprint(tokenizer: CodeTokenizer) -> TokenizerPrint:
    """Compute the identity, which is the same for the same vocabulary, merges and end of text in any file format.

    The hash covers the vocabulary, the end-of-text id, and the encoding of texts: `PROBE`, and the text of single ids.
    The latter reveal different merges without comparing merge lists, whose order depends on the format. A padding token
    after
    the vocabulary does not count: no text contains it.
    """
    vocabulary = tokenizer.backend.get_vocab(with_added_tokens=True)
    last = max(vocabulary.items(), key=lambda item: item[1])
    if last[0] in (*PADDING, tokenizer.special.pad) and last[1] != tokenizer.eos_id:
        del vocabulary[last[0]]
    ids = sorted(vocabulary.values())
    texts = [tokenizer.decode([index]) for index in ids[:: max(len(ids) // PROBED_IDS, 1)]]
    told = (
        sorted(vocabulary.items(), key=lambda item: item[1]),
        tokenizer.eos_id,
        [tokenizer.backend.encode(text, add_special_tokens=False).ids for text in (*PROBE, "\n".join(texts))],
    )
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    return TokenizerPrint(len(vocabulary), digest[:DIGITS], tokenizer.bos_id is not None)
