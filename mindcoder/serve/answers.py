"""Turns the engine's events into texts, with the metadata that clients ask for."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from mindcoder.generate.request import Request
from mindcoder.generate.sampler import TokenChoice
from mindcoder.generate.text import StoppedText
from mindcoder.serve.metrics import Metrics
from mindcoder.serve.worker import EngineWorker
from mindcoder.tokenizer import CodeTokenizer


@dataclass
class Answer:
    """One choice of a response while it is generated; it may continue to grow while an earlier `Item` is read.

    Attributes:
        text: the final part of the text so far.
        choices: the tokens with their logprobs.
        finish_reason: ``stop`` or ``length``; None while it is running.
        cached: prompt tokens found in the prefix cache.
    """

    text: str = ""
    choices: list[TokenChoice] = field(default_factory=list)
    finish_reason: str | None = None
    cached: int = 0


@dataclass(frozen=True)
class Item:
    """What one event added to an answer, as of that event, even if read later.

    Attributes:
        text: new text.
        tokens: new tokens.
        finish_reason: None while the answer continues.
        generated: tokens of the answer so far.
        cached: prompt tokens found in the prefix cache.
    """

    text: str
    tokens: tuple[TokenChoice, ...]
    finish_reason: str | None
    generated: int
    cached: int


async def follow(
    worker: EngineWorker,
    tokenizer: CodeTokenizer,
    request: Request,
    stops: Sequence[str],
    metrics: Metrics,
    answer: Answer,
) -> AsyncIterator[Item]:
    """Run a request, extending ``answer`` and yielding the new part of each step."""
    text = StoppedText(tokenizer, stops)
    metrics.tokens.labels("prompt").inc(len(request.prompt))
    seen = time.perf_counter()
    async with aclosing(worker.answer(request)) as events:  # type: ignore[type-var]
        async for event in events:
            now = time.perf_counter()
            (metrics.next_token if answer.choices else metrics.first_token).observe(now - seen)
            seen = now
            answer.cached = event.sequence.reused
            fresh = ""
            if event.choice is not None:
                metrics.tokens.labels("generated").inc()
                answer.choices.append(event.choice)
                fresh = text.push(event.choice.token)
            answer.finish_reason = "stop" if text.stopped else event.finish_reason
            if answer.finish_reason is not None:
                fresh += text.finish()
            answer.text += fresh
            tokens = () if event.choice is None else (event.choice,)
            yield Item(fresh, tokens, answer.finish_reason, len(answer.choices), answer.cached)
            if text.stopped:
                return
