"""What a comparison of two models has found, as data, as lines and as one line."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """The likeliest token of a model: its id, its text and its probability."""

    token: int
    text: str
    probability: float

    def __str__(self) -> str:
        return f"{self.text!r} ({self.probability:.2f})"


@dataclass(frozen=True)
class Disagreement:
    """A place where the likeliest tokens of two models differ.

    Attributes:
        file, line: of the record; the line is None unless the file is JSONL.
        record: index in the file, from 0.
        position: of the predicted token in the record, from 0.
        before, after: the text around the predicted token.
        actual: the token that is there.
        a, b: what the models predict.
    """

    file: str
    line: int | None
    record: int
    position: int
    before: str
    actual: str
    after: str
    a: Prediction
    b: Prediction

    def lines(self) -> list[str]:
        """Two lines: where, and what."""
        place = f"{self.file}:{self.line}" if self.line is not None else self.file
        return [
            f"{place}, record {self.record}, token {self.position}: {self.before!r} [{self.actual!r}] {self.after!r}",
            f"A predicts {self.a}, B {self.b}",
        ]


@dataclass(frozen=True)
class Comparison:
    """How far two models agree on the next token of every text.

    Attributes:
        a, b: where the models are.
        data: where the texts are.
        texts: number of them.
        tokens: that were predicted: all of a text but the first.
        vocab_size: logits that were compared per token; the smaller vocabulary where the sizes differ.
        max_difference, mean_difference: of the logits, absolute, over all tokens and the whole vocabulary.
        kl: mean over the tokens of the divergence KL(A‖B) of the distributions, in nats.
        max_kl: the largest of them.
        agreement: share of the tokens for which both models' likeliest token is the same.
        perplexity_a, perplexity_b: of the texts, prompts included.
        first: the first token whose likeliest prediction differs; None if there is none.
    """

    a: str
    b: str
    data: str
    texts: int
    tokens: int
    vocab_size: int
    max_difference: float
    mean_difference: float
    kl: float
    max_kl: float
    agreement: float
    perplexity_a: float
    perplexity_b: float
    first: Disagreement | None

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def summary(self) -> str:
        """One line."""
        return (
            f"top-1 agreement {_share(self.agreement)} of {self.tokens} tokens, KL {self.kl:.2e} nats per token, "
            f"logits differ by {self.mean_difference:.2e} (at most {self.max_difference:.2e}), "
            f"perplexity {self.perplexity_a:.5g} and {self.perplexity_b:.5g}"
        )

    def lines(self) -> list[str]:
        """A table, and the first token that differs."""
        lines = [
            f"A                  {self.a}",
            f"B                  {self.b}",
            f"data               {self.data}: {self.texts} texts, {self.tokens} tokens, {self.vocab_size} logits each",
            f"logit difference   mean {self.mean_difference:.3e}, max {self.max_difference:.3e}",
            f"KL(A||B) per token mean {self.kl:.3e}, max {self.max_kl:.3e} nats",
            f"top-1 agreement    {_share(self.agreement)}",
            f"perplexity         A {self.perplexity_a:.6g}, B {self.perplexity_b:.6g}",
        ]
        if self.first is None:
            return [*lines, "first difference   none: every likeliest token is the same"]
        where, what = self.first.lines()
        return [*lines, f"first difference   {where}", f"                   {what}"]

    def as_dict(self) -> dict[str, Any]:
        """As data for JSON."""
        return asdict(self)


def _share(value: float) -> str:
    """Per cent, rounded down: 100 % only if nothing differs."""
    return f"{int(value * 1e5) / 1e3:.3f} %"
