"""Sums over the logits of two models, a few rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mindcoder.compare.comparison import Comparison, Disagreement, Prediction
from mindcoder.compare.texts import Text
from mindcoder.errors import UserError

ROWS = 32  # rows of logits that are computed together, in float64
AROUND = 24  # tokens of text that are shown before a difference; a third of them after it

Decode = Callable[[list[int]], str]


class Measures:
    """Adds up what `Comparison` reports.

    All in float64: the differences between models that should be equal are around the precision of float32, where the
    terms of the divergence cancel.

    Args:
        vocab_size: leading logits to compare.
        decode: text of token ids.
    """

    def __init__(self, vocab_size: int, decode: Decode) -> None:
        self.vocab_size, self.decode = vocab_size, decode
        self.texts = self.tokens = self.same = 0
        self.difference = self.max_difference = self.kl = self.max_kl = 0.0
        self.loss = np.zeros(2)
        self.first: Disagreement | None = None

    def add(self, text: Text, begin: int, a: np.ndarray, b: np.ndarray) -> None:
        """Add logits of a part of a text.

        Args:
            begin: index in the text's ids of the first row's token.
            a, b: float32 ``[s, V]``; row ``i`` is about the token after ``ids[begin + i]``. The row after the text's
                last token counts for nothing, as there is no token to compare it with.

        Raises:
            UserError: a logit is not a finite number.
        """
        rows = min(len(a), len(text.ids) - 1 - begin)
        for row in range(0, rows, ROWS):
            part = slice(row, min(row + ROWS, rows))
            self._add(text, begin + row, *(item[part, : self.vocab_size].astype(np.float64) for item in (a, b)))

    def _add(self, text: Text, begin: int, a: np.ndarray, b: np.ndarray) -> None:
        for name, logits in (("A", a), ("B", b)):
            if not np.isfinite(logits).all():
                raise UserError(
                    f"record {text.record}: the output of {name} is not a number from token {text.start + begin} on: "
                    "its weights are damaged, or overflow in this dtype",
                    text.file,
                    text.line,
                )
        difference = np.abs(a - b)
        self.difference += float(difference.sum())
        self.max_difference = max(self.max_difference, float(difference.max()))
        top_a, top_b = a.argmax(1), b.argmax(1)
        logprobs_a, logprobs_b = log_softmax(a), log_softmax(b)
        divergences = np.maximum((np.exp(logprobs_a) * (logprobs_a - logprobs_b)).sum(1), 0.0)
        self.kl += float(divergences.sum())
        self.max_kl = max(self.max_kl, float(divergences.max()))
        count = len(a)
        following = text.ids[begin + 1 : begin + 1 + count]
        self.loss -= [float(item[np.arange(count), following].sum()) for item in (logprobs_a, logprobs_b)]
        differs = top_a != top_b
        self.tokens += count
        self.same += count - int(differs.sum())
        if self.first is None and differs.any():
            row = int(differs.argmax())
            predictions = [
                Prediction(int(top[row]), self.decode([int(top[row])]), float(np.exp(logprobs[row, top[row]])))
                for top, logprobs in ((top_a, logprobs_a), (top_b, logprobs_b))
            ]
            self.first = self._disagreement(text, begin + 1 + row, *predictions)

    def _disagreement(self, text: Text, index: int, a: Prediction, b: Prediction) -> Disagreement:
        """A disagreement about ``text.ids[index]``."""
        ids = text.ids.tolist()
        return Disagreement(
            text.file,
            text.line,
            text.record,
            text.start + index,
            self.decode(ids[max(index - AROUND, 0) : index]),
            self.decode(ids[index : index + 1]),
            self.decode(ids[index + 1 : index + 1 + AROUND // 3]),
            a,
            b,
        )

    def comparison(self, a: str, b: str, data: str) -> Comparison:
        """The means of everything that was added."""
        perplexity_a, perplexity_b = (math.exp(min(loss / self.tokens, 700.0)) for loss in self.loss.tolist())
        return Comparison(
            a,
            b,
            data,
            self.texts,
            self.tokens,
            self.vocab_size,
            self.max_difference,
            self.difference / self.tokens / self.vocab_size,
            self.kl / self.tokens,
            self.max_kl,
            self.same / self.tokens,
            perplexity_a,
            perplexity_b,
            self.first,
        )


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the probabilities ``[s, V]``, float64."""
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
