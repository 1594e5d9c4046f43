"""Requests to the engine, and their state while they run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mindcoder.generate.sampler import Sampler, SamplingOptions, TokenChoice

FinishReason = Literal["stop", "length", "cancelled", "failed"]


@dataclass(frozen=True)
class Request:
    """One prompt to complete.

    Attributes:
        prompt: token ids.
        options: how tokens are chosen.
        max_new_tokens: limit of the answer; None goes to the engine's ``max_length``.
        stop_ids: each ends the answer and is left out of it; None takes the engine's.
        logprobs: how many of the likeliest tokens to report at each step, with the chosen one's; None reports nothing.
        row: sequences of one seed draw differently by this number.
        adapter: name of one of the engine's adapters; None is the base model.
    """

    prompt: tuple[int, ...]
    options: SamplingOptions = SamplingOptions()
    max_new_tokens: int | None = None
    stop_ids: frozenset[int] | None = None
    logprobs: int | None = None
    row: int = 0
    adapter: str | None = None


@dataclass(eq=False)
class Sequence:
    """A request in the engine.

    Attributes:
        request: what was asked for.
        sampler: chooses its tokens.
        limit: length in tokens at which it ends.
        stop_ids: each ends it.
        tokens: prompt and answer so far.
        blocks: its cache blocks, in order.
        released: how many of the first of them it has given back, because no token sees them any more.
        block_hashes: hashes of the full ones, for the prefix cache.
        computed: number of tokens whose keys and values are in the cache.
        finish_reason: None while it runs.
        stopped_by: the stop id that ended it.
        reused: prompt tokens that were in the cache already.
        preempted: how often it was preempted: its blocks were freed and it started over.
        has_outgrown: whether it has outgrown the original context of longrope, beyond which all keys differ.
    """

    request: Request
    sampler: Sampler
    limit: int
    stop_ids: frozenset[int]
    tokens: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    released: int = 0
    block_hashes: list[bytes] = field(default_factory=list)
    computed: int = 0
    finish_reason: FinishReason | None = None
    stopped_by: int | None = None
    reused: int = 0
    preempted: int = 0
    has_outgrown: bool = False

    @property
    def hash_seed(self) -> bytes:
        """What the hashes of its blocks begin with: keys of one adapter are not another's."""
        return (self.request.adapter or "").encode()

    @property
    def pending(self) -> int:
        """Tokens whose keys and values are still to be computed."""
        return len(self.tokens) - self.computed

    @property
    def answer(self) -> list[int]:
        """The generated tokens."""
        return self.tokens[len(self.request.prompt) :]

    def take(self, token: int) -> bool:
        """Append a chosen token, or end at a stop id or the limit; whether it was appended."""
        if token in self.stop_ids:
            self.finish_reason, self.stopped_by = "stop", token
            return False
        self.tokens.append(token)
        if len(self.tokens) >= self.limit:
            self.finish_reason = "length"
        return True


@dataclass(frozen=True)
class Event:
    """What a step brought for one sequence: a token, its end, or both.

    Attributes:
        error: why no token could be chosen, where that ended the sequence.
    """

    sequence: Sequence
    choice: TokenChoice | None
    finish_reason: FinishReason | None
    error: Exception | None = None
