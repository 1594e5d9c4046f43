"""Prompts in, tokens out: prefill in chunks, then one token a step for the whole batch."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from mindspore import Tensor

from mindcoder.errors import UserError
from mindcoder.generate.kv_cache import CachedDecoder
from mindcoder.generate.pipeline import StagedDecoder
from mindcoder.generate.sampler import Sampler, SamplingOptions
from mindcoder.models.decoder import Decoder
from mindcoder.parallel.collectives import Collectives

FinishReason = Literal["stop", "length"]
LARGEST_CHUNK = 256


@dataclass
class Completion:
    """One sequence's answer.

    Attributes:
        prompt_tokens: length of the prompt.
        tokens: generated ids, the one that ended them left out.
        finish_reason: ``stop`` at a stop id, ``length`` at the limit, None while running.
        stopped_by: the stop id.
    """

    prompt_tokens: int
    tokens: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stopped_by: int | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds from the prompt to the first token, and of all further steps; ``steps`` counts the latter."""

    first_token: float
    decoding: float
    steps: int
    tokens: int

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens of all rows ÷ seconds after the first token."""
        return self.tokens / self.decoding if self.decoding > 0 else 0.0


class Engine:
    """Generates for fixed-size batches with two graphs, prefill chunk and single token.

    Args:
        decoder: the network with its weights.
        batch: rows of a batch; fewer prompts leave rows idle.
        max_length: prompt and answer together, in tokens.
        stop_ids: each ends a sequence; without any it runs to its limit.
        vocab_size: ids the tokenizer knows; others are never generated.
        longest_prompt: hint for the size of the prefill chunk.
        together: the processes that hold the other stages of the network.

    Raises:
        UserError: ``max_length`` exceeds the learned positions.
    """

    def __init__(
        self,
        decoder: Decoder,
        batch: int,
        max_length: int,
        stop_ids: Collection[int],
        vocab_size: int,
        longest_prompt: int = LARGEST_CHUNK,
        together: Collectives | None = None,
    ) -> None:
        limit = decoder.config.longest_text
        if limit is not None and max_length > limit:
            raise UserError(f"a length of {max_length} tokens is over the model's {limit} positions")
        self.batch, self.max_length, self.vocab_size = batch, max_length, vocab_size
        self.stop_ids = frozenset(stop_ids)
        self.chunk = min(LARGEST_CHUNK, -(-min(longest_prompt, max_length) // 32) * 32)
        slots = -(-max_length // self.chunk) * self.chunk
        self.network = CachedDecoder(decoder, batch, slots)
        self.network.set_train(False)
        self._forward = (
            StagedDecoder(self.network, together) if together and together.mesh.pipeline > 1 else self.network
        )
        self.timing = Timing(0.0, 0.0, 0, 0)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        options: SamplingOptions = SamplingOptions(),
        max_new_tokens: int | None = None,
    ) -> list[Completion]:
        """Complete up to ``batch`` prompts."""
        completions: list[Completion] = []
        for completions, _ in self.stream(prompts, options, max_new_tokens):
            pass
        return completions

    def stream(
        self,
        prompts: Sequence[Sequence[int]],
        options: SamplingOptions = SamplingOptions(),
        max_new_tokens: int | None = None,
    ) -> Iterator[tuple[list[Completion], list[int | None]]]:
        """After each step: all completions so far and each row's new token (None where there is none).

        Raises:
            UserError: an empty or over-long prompt, or more prompts than rows.
        """
        rows = [list(map(int, prompt)) for prompt in prompts]
        self._check(rows)
        completions = [Completion(len(row)) for row in rows]
        limits = [min(self.max_length - len(row), max_new_tokens or self.max_length) for row in rows]
        sampler = Sampler(options, rows, self.vocab_size)
        began = time.perf_counter()
        lengths = np.array([len(row) for row in rows] + [1] * (self.batch - len(rows)), np.int32)
        logits = self._prefill(rows)
        first_token = decoding = 0.0
        steps = 0
        while True:
            tokens = sampler.choose(logits[: len(rows)])
            fresh = self._take(completions, limits, tokens)
            now = time.perf_counter()
            if steps == 0:
                first_token, began = now - began, now
            decoding = now - began
            self.timing = Timing(
                first_token, decoding, steps, sum(len(item.tokens) for item in completions) - len(completions)
            )
            yield completions, fresh
            if all(item.finish_reason for item in completions):
                return
            running = np.array(
                [item.finish_reason is None for item in completions] + [False] * (self.batch - len(rows))
            )
            inputs = np.zeros((self.batch, 1), np.int32)
            inputs[: len(rows), 0] = np.where(running[: len(rows)], tokens, 0)
            positions = np.minimum(lengths, self.network.slots - 1).reshape(-1, 1)
            longest = int(lengths[: len(rows)].max()) + 1
            logits = self._run(inputs, positions, np.zeros(self.batch, np.int32), longest)
            lengths = lengths + running
            steps += 1

    def _check(self, rows: list[list[int]]) -> None:
        if len(rows) > self.batch:
            raise UserError(f"{len(rows)} prompts are more than the batch of {self.batch}")
        for index, row in enumerate(rows):
            if not row:
                raise UserError(f"prompt {index} is empty")
            if len(row) >= self.max_length:
                raise UserError(
                    f"prompt {index} has {len(row)} tokens, which leaves no room for an answer within "
                    f"{self.max_length} (--predict_length)"
                )

    def _prefill(self, rows: list[list[int]]) -> np.ndarray:
        """Fill the caches chunk by chunk; logits ``[B, V]`` after each prompt's last token."""
        longest = max(len(row) for row in rows)
        result: np.ndarray | None = None
        for start in range(0, longest, self.chunk):
            inputs = np.zeros((self.batch, self.chunk), np.int32)
            last = np.zeros(self.batch, np.int32)
            for index, row in enumerate(rows):
                part = row[start : start + self.chunk]
                inputs[index, : len(part)] = part
                last[index] = min(max(len(row) - 1 - start, 0), self.chunk - 1)
            positions = np.tile(np.arange(start, start + self.chunk, dtype=np.int32), (self.batch, 1))
            logits = self._run(inputs, positions, last, longest)
            result = logits.copy() if result is None else result
            for index, row in enumerate(rows):
                if start < len(row) <= start + self.chunk:
                    result[index] = logits[index]
        assert result is not None
        return result

    def _run(self, inputs: np.ndarray, positions: np.ndarray, last: np.ndarray, longest: int) -> np.ndarray:
        arguments = (inputs, positions.astype(np.int32), last.astype(np.int32), np.int32(longest))
        return self._forward(*(Tensor(argument) for argument in arguments)).asnumpy()

    def _take(self, completions: list[Completion], limits: list[int], tokens: np.ndarray) -> list[int | None]:
        """Append each running row's token, or end the row."""
        fresh: list[int | None] = []
        for item, limit, token in zip(completions, limits, tokens.tolist()):
            if item.finish_reason is not None:
                fresh.append(None)
                continue
            if token in self.stop_ids:
                item.finish_reason, item.stopped_by = "stop", token
                fresh.append(None)
                continue
            item.tokens.append(token)
            fresh.append(token)
            if len(item.tokens) >= limit:
                item.finish_reason = "length"
        return fresh
