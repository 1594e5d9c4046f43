"""Fill-in-the-middle: rearranges a document so that a model learns to write the text between two others.

Bavarian et al. 2022. Token ids are split at two random points into prefix, middle and suffix, and put in PSM order
(``<PRE> prefix <SUF> suffix <MID> middle``) or SPM order (``<PRE> <SUF> suffix <MID> prefix middle``, the variant that
StarCoder and Code Llama were trained with). Seed-Coder and Codestral know one order only, with the suffix first:
``<SUF> suffix <PRE> prefix <MID> middle``. StarCoder's end of text, or Code Llama's own token, ends the middle.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mindcoder.tokenizer import CodeTokenizer


@dataclass(frozen=True)
class InfillOptions:
    """Share of documents that are rearranged, share of those in SPM order, and the seed of both and of the splits."""

    rate: float = 0.0
    spm_rate: float = 0.5
    seed: int = 0


class InfillRearranger:
    """Rearranges documents with a tokenizer that has fill-in-the-middle tokens.

    Raises:
        UserError: it has none.
    """

    def __init__(self, tokenizer: CodeTokenizer, options: InfillOptions) -> None:
        marks, find = tokenizer.infill_marks(), tokenizer.backend.token_to_id
        self.options = options
        self.eos, self.bos = tokenizer.eos_id, tokenizer.bos_id
        self.prefix, self.suffix = find(marks.prefix), find(marks.suffix)
        self.middle = [find(marks.middle)] if marks.middle else []
        self.suffix_first = marks.order == "spm"
        self.stop = self.eos if marks.stop is None else find(marks.stop)
        self.extra_tokens = 2 + len(self.middle) + (marks.stop is not None)

    def maybe(self, ids: Sequence[int], key: Sequence[object]) -> list[int]:
        """``ids``, rearranged or not; the draw depends only on the seed and ``key``, not on what was read before."""
        number = zlib.crc32(repr(tuple(key)).encode())
        rng = np.random.default_rng([self.options.seed, number])
        if rng.random() >= self.options.rate:
            return list(ids)
        begins = self.bos is not None and len(ids) > 0 and ids[0] == self.bos
        ends = len(ids) > 0 and ids[-1] == self.eos
        inner = list(ids[int(begins) : len(ids) - int(ends)])
        first, second = sorted(rng.integers(0, len(inner) + 1, 2).tolist())
        prefix, middle, suffix = inner[:first], inner[first:second], inner[second:]
        if self.suffix_first:
            rearranged = [self.suffix, *suffix, self.prefix, *prefix, *self.middle, *middle]
        elif rng.random() < self.options.spm_rate:
            rearranged = [self.prefix, self.suffix, *suffix, *self.middle, *prefix, *middle]
        else:
            rearranged = [self.prefix, *prefix, self.suffix, *suffix, *self.middle, *middle]
        ending = [self.stop] if ends or self.stop != self.eos else []
        return [*ids[: int(begins)], *rearranged, *ending]
