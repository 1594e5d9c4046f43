"""Which tokens the next step computes: running sequences first, then as much of the prompts as the step has room for.

Sequences join and leave between steps (Yu et al. 2022, Orca). When the cache is full the sequence that came last gives
its blocks back and waits at the head of the queue; what it has computed is computed again, nothing is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from mindcoder.generate.blocks import SCRATCH, BlockPool, block_hash, blocks_at_once
from mindcoder.generate.request import Sequence


@dataclass(frozen=True)
class ScheduledChunk:
    """Tokens ``start`` to ``start + count`` of a sequence, for one step."""

    sequence: Sequence
    start: int
    count: int

    @property
    def completes(self) -> bool:
        """Whether the sequence's next token follows from this chunk."""
        return self.start + self.count == len(self.sequence.tokens)


class Scheduler:
    """The queue and the running sequences.

    Args:
        pool: the cache's blocks.
        max_running: sequences computed together.
        chunk: tokens a step computes at most.
        supports_mixed_batches: whether one step may hold prompts and single tokens of several sequences; without, a
            step is either a chunk of one prompt or one token of every running sequence (what MindSpore's own operators
            are shaped for).
        outgrown: length beyond which all keys of a sequence change (longrope), so that they are computed again.
    """

    def __init__(
        self,
        pool: BlockPool,
        max_running: int,
        chunk: int,
        supports_mixed_batches: bool,
        outgrown: int | None = None,
    ) -> None:
        self.pool, self.max_running, self.chunk = pool, max_running, chunk
        self.outgrown = outgrown
        self.supports_mixed_batches = supports_mixed_batches
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is, and give its blocks back."""
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        self._release(sequence)

    def plan(self) -> list[ScheduledChunk]:
        """The next step's chunks; empty when there is nothing to do."""
        self._admit()
        self._begin_again()
        decoding = [sequence for sequence in self.running if sequence.pending == 1]
        prompts = [sequence for sequence in self.running if sequence.pending > 1]
        if not self.supports_mixed_batches:
            return self._chunks(prompts[:1] or decoding)
        return self._chunks([*decoding, *prompts])

    def done(self, chunks: Iterable[ScheduledChunk]) -> None:
        """Note that the chunks are in the cache, and what their full blocks hold; free the blocks out of sight."""
        size = self.pool.block_size
        for chunk in chunks:
            sequence = chunk.sequence
            sequence.computed = max(sequence.computed, chunk.start + chunk.count)
            while (len(sequence.block_hashes) + 1) * size <= sequence.computed:
                index = len(sequence.block_hashes)
                before = sequence.block_hashes[-1] if sequence.block_hashes else sequence.hash_seed
                sequence.block_hashes.append(block_hash(before, sequence.tokens[index * size : (index + 1) * size]))
                self.pool.register(sequence.blocks[index], sequence.block_hashes[-1])
            for index in range(sequence.released, self.pool.first_seen(sequence.computed)):
                self.pool.release(sequence.blocks[index])
                sequence.blocks[index], sequence.released = SCRATCH, index + 1

    def _admit(self) -> None:
        """Let waiting sequences in while there is room for the whole of their tokens."""
        while self.waiting and len(self.running) < self.max_running:
            sequence = self.waiting[0]
            blocks, hashes = self.pool.take_prefix(sequence.tokens, sequence.hash_seed)
            begin = len(blocks) * self.pool.block_size
            released = self.pool.first_seen(begin)
            needed = self._at_once(len(sequence.tokens) + 1) - (len(blocks) - released)
            if self.pool.free < needed + len(self.running) and self.running:  # one block ahead for everybody
                for block in blocks[released:]:
                    self.pool.release(block)
                return
            self.waiting.popleft()
            sequence.blocks, sequence.block_hashes = blocks, hashes
            sequence.computed, sequence.released = begin, released
            if not sequence.preempted:
                sequence.reused = sequence.computed
            self.running.append(sequence)

    def _at_once(self, tokens: int) -> int:
        """Most blocks that so many tokens of a sequence take at once."""
        return blocks_at_once(tokens, self.pool.block_size, self.pool.window, self.chunk)

    def _begin_again(self) -> None:
        """Sequences that have just outgrown their context drop what they have computed."""
        for sequence in self.running if self.outgrown is not None else ():
            if not sequence.has_outgrown and len(sequence.tokens) > self.outgrown:  # type: ignore[operator]
                sequence.has_outgrown = True
                self._release(sequence)

    def _chunks(self, sequences: list[Sequence]) -> list[ScheduledChunk]:
        chunks: list[ScheduledChunk] = []
        room = self.chunk
        for sequence in sequences:
            if room == 0:
                break
            if sequence not in self.running:
                continue  # it lost its blocks to one before it
            count = min(sequence.pending, room)
            if not self._reserve(sequence, sequence.computed + count):
                continue
            chunks.append(ScheduledChunk(sequence, sequence.computed, count))
            room -= count
        return [chunk for chunk in chunks if chunk.sequence in self.running]

    def _reserve(self, sequence: Sequence, tokens: int) -> bool:
        """Blocks for ``tokens`` of a sequence; those that came later give theirs, at last the sequence itself."""
        while len(sequence.blocks) * self.pool.block_size < tokens:
            block = self.pool.take()
            if block is not None:
                sequence.blocks.append(block)
                continue
            last = self.running[-1]
            self.running.pop()
            self._release(last)
            last.preempted += 1
            self.waiting.appendleft(last)
            if last is sequence:
                return False
        return True

    def _release(self, sequence: Sequence) -> None:
        for block in reversed(sequence.blocks[sequence.released :]):  # a prefix is worth more than what follows it
            self.pool.release(block)
        sequence.blocks, sequence.block_hashes, sequence.computed, sequence.released = [], [], 0, 0
