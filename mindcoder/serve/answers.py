"""From the engine's events to texts, with what a client wants to know about them."""

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
    """One choice of a response as it grows.

    Attributes:
        text: what is certain so far.
        choices: the tokens with their logprobs.
        finish_reason: ``stop`` or ``length``; None while it runs.
        cached: prompt tokens that were in the cache.
    """

    text: str = ""
    choices: list[TokenChoice] = field(default_factory=list)
    finish_reason: str | None = None
    cached: int = 0


async def follow(
    worker: EngineWorker, tokenizer: CodeTokenizer, request: Request, stops: Sequence[str], metrics: Metrics
) -> AsyncIterator[tuple[str, list[TokenChoice], Answer]]:
    """New text, the tokens that came since the last item, and the answer so far."""
    answer, text = Answer(), StoppedText(tokenizer, stops)
    metrics.tokens.labels("prompt").inc(len(request.prompt))
    seen = time.perf_counter()
    async with aclosing(worker.answer(request)) as events:  # type: ignore[type-var]
        async for event in events:
            now = time.perf_counter()
            (metrics.next_token if answer.choices else metrics.first_token).observe(now - seen)
            seen = now
            answer.cached = event.sequence.reused
            fresh, chosen = "", []
            if event.choice is not None:
                metrics.tokens.labels("generated").inc()
                answer.choices.append(event.choice)
                chosen.append(event.choice)
                fresh = text.push(event.choice.token)
            answer.finish_reason = "stop" if text.stopped else event.finish_reason
            if answer.finish_reason is not None:
                fresh += text.finish()
            answer.text += fresh
            yield fresh, chosen, answer
            if text.stopped:
                return
