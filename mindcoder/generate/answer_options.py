"""How a model is asked to answer: the options of `mindcoder.Model.generate` and ``chat``, checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from mindcoder.errors import UserError, shown
from mindcoder.generate.sampler import SamplingOptions

LARGEST_SEED = 2**32 - 1  # of numpy's generators
LARGEST_COUNT = 2**31 - 1


class Options(TypedDict, total=False):
    """How to answer; the keyword arguments of `Model.generate` and `Model.chat`. See `AnswerOptions`."""

    max_new_tokens: int | None
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    seed: int
    stop: str | Sequence[str]
    adapter: str | None


@dataclass(frozen=True)
class AnswerOptions:
    """How to answer.

    Attributes:
        max_new_tokens: longest answer, in tokens; None goes on to the model's ``max_length``.
        temperature: 0 is greedy; otherwise the logits are divided by it before sampling.
        top_k: draw from the ``k`` likeliest tokens; 0 draws from all.
        top_p: draw from the likeliest tokens with this total probability.
        repetition_penalty: above 1 it makes tokens of the text so far less likely.
        seed: of the draws. The prompts of a list draw differently.
        stop: texts that end an answer and are left out of it.
        adapter: one of those that the model was loaded with; None is the base model.

    Raises:
        UserError: a value is out of bounds.
    """

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: str | Sequence[str] = ()
    adapter: str | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None:
            _check_count("max_new_tokens", self.max_new_tokens, 1, LARGEST_COUNT)
        _check_count("top_k", self.top_k, 0, LARGEST_COUNT)
        _check_count("seed", self.seed, 0, LARGEST_SEED)
        _check_number("temperature", self.temperature, 0.0, 1e6, True)
        _check_number("top_p", self.top_p, 0.0, 1.0, False)
        _check_number("repetition_penalty", self.repetition_penalty, 0.0, 1e6, False)
        if not isinstance(self.stop, Sequence) or not all(isinstance(text, str) for text in self.stops):
            raise UserError(f"stop: expected a text or a list of texts, found {shown(self.stop)}")

    @property
    def stops(self) -> tuple[str, ...]:
        """``stop`` as a tuple."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def sampling(self) -> SamplingOptions:
        """How the sampler chooses tokens."""
        greedy = self.temperature == 0
        return SamplingOptions(
            not greedy,
            1.0 if greedy else float(self.temperature),
            self.top_k,
            float(self.top_p),
            float(self.repetition_penalty),
            self.seed,
        )


def _check_count(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise UserError(f"{name}: expected a whole number from {low} to {high}, found {shown(value)}")


def _check_number(name: str, value: object, low: float, high: float, includes_low: bool) -> None:
    """Refuse what is not a finite number between bounds; tiny ones overflow when a float32 is divided by them."""
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    # Compared first: an int that no float holds is not finite for `isfinite` but an error.
    fits = is_number and low <= value <= high and math.isfinite(value)  # type: ignore[arg-type, operator]
    if not fits or (value == low and not includes_low) or 0 < abs(value) < 2.0**-126:  # type: ignore[arg-type]
        bound = "from" if includes_low else "above"
        raise UserError(f"{name}: expected a number {bound} {low:g} to {high:g}, found {shown(value)}")
