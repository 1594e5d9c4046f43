"""The next token from its logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mindcoder.errors import UserError

LARGEST_LOGIT = 1e30  # float32 holds it, and the difference of two such logits too


@dataclass(frozen=True)
class SamplingOptions:
    """How to choose; the definitions are those of Hugging Face's logits processors, in its order.

    Attributes:
        do_sample: draw from the distribution; otherwise the most likely token.
        temperature: divides the logits.
        top_k: keep the k most likely; 0 keeps all.
        top_p: keep the smallest set whose probability reaches p.
        repetition_penalty: divides positive and multiplies negative logits of tokens seen before (CTRL paper).
        seed: of the draws; a sequence with row r draws from (seed, r).
    """

    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class TokenChoice:
    """A chosen token.

    Attributes:
        logprob: natural logarithm of its probability under the model's own distribution (before temperature and
            penalties); None unless asked for.
        top: the likeliest tokens and their logprobs, best first.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Chooses the tokens of one sequence.

    Args:
        options: how.
        prompt: token ids so far.
        vocab_size: ids from here on (padding rows of the table) are never chosen.
        row: tells sequences of the same seed apart.
        logprobs: how many of the likeliest tokens to report; None reports nothing.
    """

    def __init__(
        self,
        options: SamplingOptions,
        prompt: Sequence[int],
        vocab_size: int,
        row: int = 0,
        logprobs: int | None = None,
    ) -> None:
        self.options, self.vocab_size, self.logprobs = options, vocab_size, logprobs
        self._generator = np.random.default_rng([options.seed, row])
        self._penalizes = options.repetition_penalty != 1.0
        known = [token for token in prompt if token < vocab_size] if self._penalizes else []  # others have no logit
        self._seen = np.unique(np.asarray(known, np.int64))

    def choose(self, logits: np.ndarray) -> TokenChoice:
        """From ``[V]`` float32."""
        logits = logits[: self.vocab_size]
        token = self._draw(self._penalized(logits))
        if self._penalizes:
            self._seen = np.union1d(self._seen, [token])
        if self.logprobs is None:
            return TokenChoice(token)
        logprobs = log_softmax(logits)
        likeliest = np.argsort(-logprobs, kind="stable")[: self.logprobs]
        top = tuple((int(index), float(logprobs[index])) for index in likeliest)
        return TokenChoice(token, float(logprobs[token]), top)

    def _penalized(self, logits: np.ndarray) -> np.ndarray:
        if not self._penalizes:
            return logits
        penalty = np.float32(min(max(self.options.repetition_penalty, 1 / LARGEST_LOGIT), LARGEST_LOGIT))
        logits = logits.copy()
        values = logits[self._seen]
        with np.errstate(over="ignore"):
            values = np.where(values > 0, values / penalty, values * penalty)
        logits[self._seen] = np.clip(values, -LARGEST_LOGIT, LARGEST_LOGIT)
        return logits

    def _draw(self, logits: np.ndarray) -> int:
        refuse_not_a_number(logits)
        if not self.options.do_sample:
            return int(logits.argmax())
        probs = sampling_distribution(logits, self.options)
        return int(self._generator.choice(len(probs), p=probs))


def refuse_not_a_number(logits: np.ndarray) -> None:
    """Refuse to choose among logits ``[V]`` or ``[tokens, V]`` one of which is NaN: the largest would be any.

    Raises:
        UserError: one is.
    """
    if np.isnan(logits.max()):
        raise UserError("the network's output is not a number: its weights are damaged, or overflow in this dtype")


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the probabilities, float64."""
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def sampling_distribution(logits: np.ndarray, options: SamplingOptions) -> np.ndarray:
    """Probabilities ``[V]`` after temperature, top-k and top-p; float64, sums to 1."""
    shifted = logits.astype(np.float64) - float(logits.max())  # before the division: a tiny temperature overflows
    with np.errstate(over="ignore"):
        scaled = shifted / options.temperature
    if 0 < options.top_k < len(scaled):
        threshold = np.partition(scaled, -options.top_k)[-options.top_k]
        scaled = np.where(scaled < threshold, -np.inf, scaled)
    probs = np.exp(scaled)
    probs /= probs.sum()
    if options.top_p < 1.0:
        ascending = np.argsort(probs, kind="stable")
        removed = ascending[np.cumsum(probs[ascending]) <= 1.0 - options.top_p]
        probs[removed[removed != ascending[-1]]] = 0.0
        probs /= probs.sum()
    return probs
