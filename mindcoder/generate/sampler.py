"""The next token from its logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SamplingOptions:
    """How to choose; the definitions are those of Hugging Face's logits processors, in its order.

    Attributes:
        do_sample: draw from the distribution; otherwise the most likely token.
        temperature: divides the logits.
        top_k: keep the k most likely; 0 keeps all.
        top_p: keep the smallest set whose probability reaches p.
        repetition_penalty: divides positive and multiplies negative logits of tokens seen before (CTRL paper).
        seed: of the draws; row r of a batch draws from (seed, r).
    """

    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0


class Sampler:
    """Chooses tokens for a batch of sequences.

    Args:
        options: how.
        prompts: token ids of each row so far.
        vocab_size: ids from here on (padding rows of the table) are never chosen.
    """

    def __init__(self, options: SamplingOptions, prompts: list[list[int]], vocab_size: int) -> None:
        self.options = options
        self.vocab_size = vocab_size
        self._generators = [np.random.default_rng([options.seed, row]) for row in range(len(prompts))]
        self._seen = [np.unique(np.array(prompt, np.int64)) for prompt in prompts]

    def choose(self, logits: np.ndarray) -> np.ndarray:
        """``[B, V]`` float32 -> ``[B]`` token ids."""
        return np.array([self._choose_row(row, logits[row, : self.vocab_size]) for row in range(len(logits))])

    def _choose_row(self, row: int, logits: np.ndarray) -> int:
        options = self.options
        if options.repetition_penalty != 1.0:
            logits = logits.copy()
            seen = self._seen[row]
            values = logits[seen]
            logits[seen] = np.where(
                values > 0, values / options.repetition_penalty, values * options.repetition_penalty
            )
        token = self._draw(row, logits) if options.do_sample else int(logits.argmax())
        if options.repetition_penalty != 1.0:
            self._seen[row] = np.union1d(self._seen[row], [token])
        return token

    def _draw(self, row: int, logits: np.ndarray) -> int:
        probs = sampling_distribution(logits, self.options)
        return int(self._generators[row].choice(len(probs), p=probs))


def sampling_distribution(logits: np.ndarray, options: SamplingOptions) -> np.ndarray:
    """Probabilities ``[V]`` after temperature, top-k and top-p; float64, sums to 1."""
    scaled = logits.astype(np.float64) / options.temperature
    if 0 < options.top_k < len(scaled):
        threshold = np.partition(scaled, -options.top_k)[-options.top_k]
        scaled = np.where(scaled < threshold, -np.inf, scaled)
    probs = np.exp(scaled - scaled.max())
    probs /= probs.sum()
    if options.top_p < 1.0:
        ascending = np.argsort(probs, kind="stable")
        removed = ascending[np.cumsum(probs[ascending]) <= 1.0 - options.top_p]
        probs[removed[removed != ascending[-1]]] = 0.0
        probs /= probs.sum()
    return probs
