"""Completions and chats: their prompts, and the format of their responses and streams."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from mindcoder.data.conversation import encode_conversation
from mindcoder.data.readers.tools import with_tools
from mindcoder.errors import UserError
from mindcoder.generate.model import Model
from mindcoder.generate.request import Request
from mindcoder.generate.sampler import TokenChoice
from mindcoder.serve.answers import Answer, Item, follow
from mindcoder.serve.calls import CallsInAnswer
from mindcoder.serve.errors import unknown_model
from mindcoder.serve.messages import conversation
from mindcoder.serve.metrics import Metrics
from mindcoder.serve.protocol import ChatRequest, CompletionRequest, Sampled, usage
from mindcoder.serve.worker import EngineWorker
from mindcoder.tokenizer import CodeTokenizer


class Job(ABC):
    """One HTTP request: ``n`` answers to each of its prompts, computed together.

    Args:
        body: the request.
        model: generates the answers.
        worker: its engine's thread.
        metrics: counts tokens.
    """

    kind = ""  # of the response object
    prefix = ""  # of its id

    def __init__(self, body: Sampled, model: Model, worker: EngineWorker, metrics: Metrics) -> None:
        self.body, self.model, self.worker, self.metrics = body, model, worker, metrics
        self.id, self.created = f"{self.prefix}-{uuid.uuid4().hex}", int(time.time())
        self.answering = model.name
        self.requests: list[Request] = []
        self.stops: list[str] = []

    @abstractmethod
    def prompts(self) -> list[list[int]]:
        """Token ids of the prompts."""

    @abstractmethod
    def choice(self, index: int, text: str, tokens: Sequence[TokenChoice], reason: str | None, is_delta: bool) -> dict:
        """An entry of ``choices``."""

    @abstractmethod
    def logprobs(self) -> int | None:
        """Number of top logprobs to report."""

    def open(self, entry: dict) -> None:  # noqa: B027, completions have nothing to add
        """Add the fields that only the first chunk of an answer has."""

    @property
    def count(self) -> int:
        """Number of requested answers."""
        return self.body.texts * self.body.n

    def check_size(self, most_tokens: int) -> None:
        """Refuse requests that are too large, judging by the numbers alone, before anything is built from them.

        Args:
            most_tokens: of all answers together.

        Raises:
            UserError: with both numbers.
        """
        most = self.worker.capacity
        if self.count > most:
            raise UserError(
                f"{self.body.texts} prompts with n {self.body.n} are {self.count} answers, the server takes {most} at a"
                " time (--max_waiting)"
            )
        context = self.model.engine.max_length
        tokens = self.count * min(self.body.longest_answer or context, context)
        if tokens > most_tokens:
            raise UserError(
                f"{self.count} answers of up to {tokens // self.count} tokens are {tokens} tokens, the server takes "
                f"{most_tokens} in a request (--max_request_tokens)"
            )

    def prepare(self) -> None:
        """Build prompts and options; errors come before anything is computed. Slow for long texts: not in the event
        loop.

        Raises:
            UserError: a prompt does not fit.
            Refused: the request names another model.
        """
        asked = self.model.name if self.body.model is None else self.body.model
        if asked not in self.model.choices:
            raise unknown_model(asked, self.model.choices)
        self.answering, adapter = asked, self.model.choices[asked]
        seed = random.getrandbits(32) if self.body.seed is None else self.body.seed
        try:
            self.stops, prompts = self.body.stop, self.prompts()
        except ValueError as error:
            raise UserError(str(error)) from None
        for prompt in prompts:
            if not prompt:
                raise UserError("prompt: it is empty")
            if len(prompt) >= self.model.engine.max_length:
                raise UserError(
                    f"a prompt of {len(prompt)} tokens leaves no room for an answer: prompt and answer have "
                    f"{self.model.engine.max_length} tokens together"
                )
            if max(prompt) >= self.model.engine.vocab_size or min(prompt) < 0:
                raise UserError(f"prompt: token ids have to be from 0 to {self.model.engine.vocab_size - 1}")
        self.requests = [
            Request(
                tuple(prompt), self.body.options(seed), self.body.longest_answer, None, self.logprobs(), row, adapter
            )
            for prompt in prompts
            for row in range(self.body.n)
        ]

    async def whole(self) -> dict[str, Any]:
        """The response, once all answers are complete."""
        tasks = [asyncio.create_task(self._finish(request)) for request in self.requests]
        try:
            answers = await asyncio.gather(*tasks)
        finally:  # if one fails the others are cancelled
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        choices = [
            self.choice(index, answer.text, answer.choices, answer.finish_reason, False)
            for index, answer in enumerate(answers)
        ]
        counts = {index: (len(answer.choices), answer.cached) for index, answer in enumerate(answers)}
        return {**self._head(self.kind), "choices": choices, "usage": self._usage(counts)}

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        """Chunks as tokens arrive, with the answers interleaved."""
        counts: dict[int, tuple[int, int]] = {}
        opened: set[int] = set()
        options = self.body.stream_options
        head = self._head(f"{self.kind}.chunk" if self.kind == "chat.completion" else self.kind)
        async with aclosing(self._merged()) as items:  # type: ignore[type-var]
            async for index, item in items:
                counts[index] = item.generated, item.cached
                if item.text or item.finish_reason or (item.tokens and self.logprobs() is not None):
                    entry = self.choice(index, item.text, item.tokens, item.finish_reason, True)
                    if index not in opened:
                        opened.add(index)
                        self.open(entry)
                    chunk = {**head, "choices": [entry]}
                    if options is not None and options.continuous_usage_stats:
                        chunk["usage"] = self._usage(counts)
                    yield chunk
        if options is not None and options.include_usage:
            yield {**head, "choices": [], "usage": self._usage(counts)}

    async def _finish(self, request: Request) -> Answer:
        answer = Answer()
        async with aclosing(self._follow(request, answer)) as items:  # type: ignore[type-var]
            async for _ in items:
                pass
        return answer

    def _follow(self, request: Request, answer: Answer) -> AsyncIterator[Item]:
        return follow(self.worker, self.model.tokenizer, request, self.stops, self.metrics, answer)

    async def _merged(self) -> AsyncIterator[tuple[int, Item]]:
        """Items of all answers with their indices, in order of arrival."""
        items: asyncio.Queue[tuple[int, Item] | BaseException | None] = asyncio.Queue()

        async def pump(index: int, request: Request) -> None:
            try:
                async with aclosing(self._follow(request, Answer())) as own:  # type: ignore[type-var]
                    async for item in own:
                        items.put_nowait((index, item))
                items.put_nowait(None)
            except Exception as error:
                items.put_nowait(error)

        tasks = [asyncio.create_task(pump(index, request)) for index, request in enumerate(self.requests)]
        try:
            left = len(tasks)
            while left:
                item = await items.get()
                if isinstance(item, BaseException):
                    raise item
                if item is None:
                    left -= 1
                else:
                    yield item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.answering}

    def _usage(self, counts: Mapping[int, tuple[int, int]]) -> dict[str, Any]:
        """``usage`` from each answer's generated and cached tokens, by answer index.

        A prompt counts once for all its answers, and so do its cached tokens: as many as the answer with the fewest
        found (the others may have found what that one computed).
        """
        prompts = sum(len(request.prompt) for request in self.requests[:: self.body.n])
        cached: dict[int, int] = {}
        for index, (_, found) in counts.items():
            prompt = index // self.body.n
            cached[prompt] = min(found, cached.get(prompt, found))
        return usage(prompts, sum(generated for generated, _ in counts.values()), sum(cached.values()))


class CompletionJob(Job):
    """``/v1/completions``; with a ``suffix`` it is fill-in-the-middle."""

    kind, prefix = "text_completion", "cmpl"
    body: CompletionRequest

    def prompts(self) -> list[list[int]]:
        given = self.body.prompt
        if isinstance(given, list) and given and isinstance(given[0], int):
            return [[int(token) for token in given]]
        texts = [given] if isinstance(given, str) else [str(text) for text in given]
        if not texts:
            raise ValueError("prompt: the list is empty")
        tokenizer = self.model.tokenizer
        if self.body.suffix is not None:
            return [tokenizer.encode_infill(text, self.body.suffix) for text in texts]
        return [tokenizer.encode(text) for text in texts]

    def logprobs(self) -> int | None:
        return self.body.logprobs

    def choice(self, index: int, text: str, tokens: Sequence[TokenChoice], reason: str | None, is_delta: bool) -> dict:
        logprobs = None
        if self.body.logprobs is not None:
            logprobs = {
                "tokens": [_text(self.model.tokenizer, item.token) for item in tokens],
                "token_logprobs": [_finite(item.logprob) for item in tokens],
                "top_logprobs": [
                    {_text(self.model.tokenizer, token): _finite(value) for token, value in item.top} for item in tokens
                ],
                "text_offset": None,
            }
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}


class ChatJob(Job):
    """``/v1/chat/completions`` with the model's template; calls are found in the answers if tools are offered."""

    kind, prefix = "chat.completion", "chatcmpl"
    body: ChatRequest

    def __init__(self, body: ChatRequest, model: Model, worker: EngineWorker, metrics: Metrics) -> None:
        super().__init__(body, model, worker, metrics)
        self.offered = body.offered
        self._answers: dict[int, CallsInAnswer] = {}  # of streams, by index

    def open(self, entry: dict) -> None:
        entry["delta"] = {"role": "assistant", **entry["delta"]}

    def prompts(self) -> list[list[int]]:
        turns = with_tools(conversation(self.body.messages), self.offered)
        return [encode_conversation(turns, self.model.template, self.model.tokenizer)]

    def logprobs(self) -> int | None:
        return (self.body.top_logprobs or 0) if self.body.logprobs else None

    def choice(self, index: int, text: str, tokens: Sequence[TokenChoice], reason: str | None, is_delta: bool) -> dict:
        logprobs = None
        if self.body.logprobs:
            logprobs = {"content": [self._logprob(item) for item in tokens], "refusal": None}
        message: dict[str, Any] = {"content": text}
        if self.offered:
            answer = self._answers.setdefault(index, CallsInAnswer()) if is_delta else CallsInAnswer()
            message, reason = answer.add(text, reason, is_delta)
        if not is_delta:
            message = {"role": "assistant", **message}
        part = "delta" if is_delta else "message"
        return {"index": index, part: message, "logprobs": logprobs, "finish_reason": reason}

    def _logprob(self, item: TokenChoice) -> dict[str, Any]:
        def entry(token: int, value: float | None) -> dict[str, Any]:
            text = _text(self.model.tokenizer, token)
            return {"token": text, "logprob": _finite(value), "bytes": list(text.encode())}

        top = [entry(token, value) for token, value in item.top]
        return {**entry(item.token, item.logprob), "top_logprobs": top}


def _finite(logprob: float | None) -> float | None:
    """JSON has no infinity: OpenAI's API uses -9999 for zero probability."""
    return None if logprob is None else max(logprob, -9999.0)


def _text(tokenizer: CodeTokenizer, token: int) -> str:
    return tokenizer.decode([token])
