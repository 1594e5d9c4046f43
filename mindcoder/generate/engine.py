"""Requests in, tokens out: the queue, the cache and the network stepped together."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from collections.abc import Sequence as Listing
from dataclasses import dataclass, field

from mindcoder.checkpoint.adapter import Adapter
from mindcoder.errors import UserError
from mindcoder.generate.adapters import LoadedAdapters, add_adapters
from mindcoder.generate.blocks import BlockPool, blocks_at_once
from mindcoder.generate.exported_decoder import ExportedDecoder
from mindcoder.generate.request import Event, FinishReason, Request, Sequence
from mindcoder.generate.runner import Runner, StepInput
from mindcoder.generate.sampler import Sampler, SamplingOptions
from mindcoder.generate.scheduler import ScheduledChunk, Scheduler
from mindcoder.models.decoder import Decoder
from mindcoder.parallel.process_groups import ProcessGroups

LARGEST_CHUNK = 256
BLOCK_SIZE = 16
SHORTEST_TEXT = 2  # tokens: one of a prompt, one of its answer


def chunk_size(longest_prompt: int, max_length: int, batch: int) -> int:
    """Tokens of a step that computes a prompt.

    Args:
        longest_prompt, max_length, batch: as of `Engine`.
    """
    return max(min(LARGEST_CHUNK, -(-min(longest_prompt, max_length) // 32) * 32), batch)


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
    """Seconds from the prompts to the first token, and of all further steps; ``tokens`` counts those of the latter."""

    first_token: float
    decoding: float
    tokens: int

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens of all sequences ÷ seconds after the first token."""
        return self.tokens / self.decoding if self.decoding > 0 else 0.0


class Engine:
    """Continuous batching over a paged cache.

    Greedy answers are the same whatever else is computed beside them: with the C++ operators bit by bit.

    Args:
        decoder: the network with its weights, or an exported one, whose graphs set ``batch`` and the tokens of a
            step if their shapes are fixed, and in any case the largest ``max_length`` and ``blocks``.
        batch: sequences computed together; more requests wait.
        max_length: prompt and answer together, in tokens.
        stop_ids: each ends a sequence, unless its request names others; without any it runs to its limit.
        vocab_size: ids the tokenizer knows; others are never generated.
        longest_prompt: hint for the tokens of a step.
        comm: the processes that hold the other stages of the network.
        blocks: cache blocks; by default ``batch`` sequences of ``max_length`` fit, or what a sliding window shows of
            them.
        block_size: tokens of a block.
        reuses_prefixes: whether prompts that begin alike share their beginning's cache.
        adapters: by name, for requests to choose from; they fit the network.

    Raises:
        UserError: ``max_length`` exceeds the learned positions or has no room for an answer, or a single such sequence
            exceeds the cache.
    """

    def __init__(
        self,
        decoder: Decoder | ExportedDecoder,
        batch: int,
        max_length: int,
        stop_ids: Collection[int],
        vocab_size: int,
        longest_prompt: int = LARGEST_CHUNK,
        comm: ProcessGroups | None = None,
        blocks: int | None = None,
        block_size: int = BLOCK_SIZE,
        reuses_prefixes: bool = True,
        adapters: Mapping[str, Adapter] | None = None,
    ) -> None:
        limit, prefix = decoder.config.longest_text, decoder.prefix_length
        if limit is not None and max_length + prefix > limit:
            behind = f" behind a prefix of {prefix}" if prefix else ""
            raise UserError(f"a length of {max_length} tokens{behind} is over the model's {limit} positions")
        if max_length < SHORTEST_TEXT:
            raise UserError(
                f"a length of {max_length} token has no room for a prompt and an answer: expected 2 or more"
            )
        self.chunk = chunk_size(longest_prompt, max_length, batch)
        if isinstance(decoder, ExportedDecoder):
            batch, self.chunk = decoder.fitting(batch, max_length, self.chunk)
        self.batch, self.max_length, self.vocab_size = batch, max_length, vocab_size
        self.stop_ids = frozenset(stop_ids)
        window = decoder.config.sliding_window  # of every layer, so that no layer needs what it hides
        longest = blocks_at_once(max_length, block_size, window, self.chunk)
        blocks = batch * longest if blocks is None else blocks
        if blocks < longest:
            seen = "" if window is None else f" with a sliding window of {window}"
            raise UserError(
                f"{blocks} cache blocks of {block_size} tokens are less than one text of {max_length} tokens{seen}, "
                f"which takes {longest}"
            )
        scaling = decoder.config.rope_scaling
        keys_depend_on_length = scaling is not None and scaling.depends_on_length
        self.pool = BlockPool(blocks + 1, block_size, reuses_prefixes and not keys_depend_on_length, window)
        self.loaded_adapters: LoadedAdapters | None = None
        if adapters and not isinstance(decoder, ExportedDecoder):
            self.loaded_adapters = add_adapters(decoder, adapters, self.chunk)
        self.runner = Runner(
            decoder, blocks + 1, block_size, max_length, batch, self.chunk, comm=comm, adapters=self.loaded_adapters
        )
        # What longrope changes, transformers computes again for the whole text; dynamic scaling leaves it.
        outgrown = scaling.original_length if scaling is not None and scaling.kind == "longrope" else None
        self.scheduler = Scheduler(self.pool, batch, self.chunk, self.runner.supports_mixed_batches, outgrown)
        self.timing = Timing(0.0, 0.0, 0)

    def check(self, request: Request) -> None:
        """Refuse a request that cannot be answered.

        Raises:
            UserError: the prompt is empty or leaves no room for an answer, or there is no such adapter.
        """
        prompt = request.prompt
        if request.adapter is not None and request.adapter not in self.adapters:
            known = ", ".join(self.adapters) or "none"
            raise UserError(f"no adapter {request.adapter!r}; available: {known}")
        if not prompt:
            raise UserError(f"prompt {request.row} is empty")
        if len(prompt) >= self.max_length:
            raise UserError(
                f"prompt {request.row} has {len(prompt)} tokens, which leaves no room for an answer within "
                f"{self.max_length} (--predict_length)"
            )

    def submit(self, request: Request) -> Sequence:
        """Queue a request; `step` works on it.

        Raises:
            UserError: as `check`.
        """
        self.check(request)
        prompt = list(request.prompt)
        sequence = Sequence(
            request,
            Sampler(request.options, prompt, self.vocab_size, request.row, request.logprobs),
            min(self.max_length, len(prompt) + (request.max_new_tokens or self.max_length)),
            self.stop_ids if request.stop_ids is None else request.stop_ids,
            prompt,
        )
        self.scheduler.add(sequence)
        return sequence

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence between two steps; its cache is free at once."""
        if sequence.finish_reason is None:
            sequence.finish_reason = "cancelled"
            self.scheduler.remove(sequence)

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names that requests may choose from."""
        return () if self.loaded_adapters is None else self.loaded_adapters.names

    @property
    def busy(self) -> bool:
        """Whether there is anything to compute."""
        return bool(self.scheduler.waiting or self.scheduler.running)

    def step(self, isolates: bool = False) -> list[Event]:
        """Compute one step; gives what it brought for each sequence that got a token or ended.

        Args:
            isolates: where no token can be chosen for a sequence, that sequence alone ends (``failed``, with the error
                in its event); otherwise the error is raised.
        """
        chunks = self.scheduler.plan()
        if not chunks:
            return []
        logits = self.runner.run([self._step_input(chunk) for chunk in chunks])
        self.scheduler.done(chunks)
        events = []
        for index, chunk in enumerate(chunk for chunk in chunks if chunk.completes):
            sequence = chunk.sequence
            try:
                choice = sequence.sampler.choose(logits[index])
            except Exception as error:
                if not isolates:
                    raise
                sequence.finish_reason = "failed"
                self.scheduler.remove(sequence)
                events.append(Event(sequence, None, "failed", error))
                continue
            appended = sequence.take(choice.token)
            if sequence.finish_reason is not None:
                self.scheduler.remove(sequence)
            events.append(Event(sequence, choice if appended else None, sequence.finish_reason))
        return events

    def generate(
        self,
        prompts: Listing[Listing[int]],
        options: SamplingOptions = SamplingOptions(),
        max_new_tokens: int | None = None,
    ) -> list[Completion]:
        """Complete prompts; any number of them."""
        completions: list[Completion] = []
        for completions, _ in self.stream(prompts, options, max_new_tokens):
            pass
        return completions

    def stream(
        self,
        prompts: Listing[Listing[int]],
        options: SamplingOptions = SamplingOptions(),
        max_new_tokens: int | None = None,
        indices: Listing[int] | None = None,
        adapters: Listing[str | None] | None = None,
    ) -> Iterator[tuple[list[Completion], list[int | None]]]:
        """After each step: all completions so far and each prompt's new token (None where there is none).

        Args:
            indices: of the prompts among all that share a seed, by which their draws differ; by default their places in
                ``prompts``.
            adapters: of the prompts; by default all are the base model's.

        Raises:
            UserError: an empty or over-long prompt.
        """
        requests = [
            Request(tuple(map(int, prompt)), options, max_new_tokens, row=row, adapter=adapter)
            for row, prompt, adapter in zip(indices or range(len(prompts)), prompts, adapters or [None] * len(prompts))
        ]
        sequences: list[Sequence] = []
        try:
            for request in requests:
                sequences.append(self.submit(request))
            yield from self._follow(sequences)
        finally:
            for sequence in sequences:
                self.cancel(sequence)

    def _follow(self, sequences: list[Sequence]) -> Iterator[tuple[list[Completion], list[int | None]]]:
        """Step until all ``sequences`` are done."""
        index_of = {id(sequence): index for index, sequence in enumerate(sequences)}
        completions = [Completion(len(sequence.request.prompt)) for sequence in sequences]
        began, first_token = time.perf_counter(), 0.0
        while any(sequence.finish_reason is None for sequence in sequences):
            fresh: list[int | None] = [None] * len(sequences)
            events = self.step()
            for event in events:
                index = index_of[id(event.sequence)]
                completions[index].finish_reason = event.finish_reason
                completions[index].stopped_by = event.sequence.stopped_by
                if event.choice is not None:
                    fresh[index] = event.choice.token
                    completions[index].tokens.append(event.choice.token)
            if not events:
                continue
            first_token = first_token or time.perf_counter() - began
            tokens = sum(len(item.tokens) for item in completions) - len(completions)
            self.timing = Timing(first_token, time.perf_counter() - began - first_token, max(tokens, 0))
            yield completions, fresh

    def _step_input(self, chunk: ScheduledChunk) -> StepInput:
        sequence = chunk.sequence
        return StepInput(
            sequence.tokens[chunk.start : chunk.start + chunk.count],
            chunk.start,
            sequence.blocks,
            1 if chunk.completes else 0,
            len(sequence.request.prompt),
            0 if self.loaded_adapters is None else self.loaded_adapters.number(sequence.request.adapter),
            len(sequence.tokens) if sequence.has_outgrown else 0,
        )
