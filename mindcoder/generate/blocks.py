"""Blocks of the key/value cache: reference counts, and which blocks hold the beginning of a prompt.

Full blocks are identified by a hash of their tokens and of all tokens before them, so a prompt that begins like an
earlier one reuses its blocks (vLLM's automatic prefix caching). A free block keeps its contents until it is needed; the
one that has been free longest goes first.

With a sliding window in every layer a block that no later token sees is free at once, and its place in the sequence's
table names the scratch block: a sequence holds a window's blocks, however long it becomes.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

SCRATCH = 0  # the block that padding writes to


def block_hash(before: bytes, tokens: Sequence[int]) -> bytes:
    """Hash of a full block: of its tokens and of the hash of the block before it."""
    return hashlib.sha256(before + np.asarray(tokens, np.int64).tobytes()).digest()


def blocks_at_once(tokens: int, block_size: int, window: int | None, chunk: int) -> int:
    """Most blocks that a sequence of ``tokens`` tokens holds at once.

    Args:
        window: tokens that a token sees at most, itself included; None: all before it.
        chunk: maximum number of tokens per step.
    """
    whole = -(-tokens // block_size)
    if window is None:
        return whole
    seen = window + chunk - 1  # by the tokens of a step, wherever in a block the first of them is
    return min(whole, (seen - 2) // block_size + 2)


class BlockPool:
    """Allocates blocks and counts their references; block 0 is `SCRATCH` and is never allocated.

    Args:
        blocks: how many there are, the scratch block included.
        block_size: tokens a block holds.
        reuses_prefixes: whether blocks are found again by their tokens.
        window: tokens that a token sees at most in every layer, itself included; None: all before it.
    """

    def __init__(self, blocks: int, block_size: int, reuses_prefixes: bool = True, window: int | None = None) -> None:
        self.block_size, self.reuses_prefixes, self.window = block_size, reuses_prefixes, window
        self._ref_counts = [0] * blocks
        self._free: OrderedDict[int, None] = OrderedDict((block, None) for block in range(1, blocks))
        self._hashes: dict[int, bytes] = {}
        self._blocks: dict[bytes, int] = {}

    @property
    def usable(self) -> int:
        """Blocks that sequences can use."""
        return len(self._ref_counts) - 1

    @property
    def free(self) -> int:
        """Free blocks."""
        return len(self._free)

    def blocks_for(self, tokens: int) -> int:
        """Number of blocks that hold ``tokens`` tokens."""
        return -(-tokens // self.block_size)

    def first_seen(self, position: int) -> int:
        """Number of blocks, from a sequence's first, that neither the token at ``position`` nor a later one sees."""
        return 0 if self.window is None else max(position - self.window + 1, 0) // self.block_size

    def take(self) -> int | None:
        """Allocate a block; None if none is free."""
        if not self._free:
            return None
        block, _ = self._free.popitem(last=False)
        self._forget(block)
        self._ref_counts[block] = 1
        return block

    def release(self, block: int) -> None:
        """Drop a reference."""
        self._ref_counts[block] -= 1
        assert self._ref_counts[block] >= 0, f"block {block} was released twice"
        if self._ref_counts[block] == 0:
            self._free[block] = None
            if block not in self._hashes:
                self._free.move_to_end(block, last=False)  # nothing worth keeping in it

    def register(self, block: int, digest: bytes) -> None:
        """Make a full block reusable by its hash; of several blocks with one hash the first is reused."""
        if self.reuses_prefixes and digest not in self._blocks:
            self._blocks[digest], self._hashes[block] = block, digest

    def take_prefix(self, tokens: Sequence[int], hash_seed: bytes = b"") -> tuple[list[int], list[bytes]]:
        """Reuse the blocks that hold the beginning of ``tokens``; at least one token is left to compute.

        With a window only those that the next token sees have to be there; the scratch block stands for the others.

        Args:
            hash_seed: what the chain of hashes begins with.

        Returns:
            The blocks, now with one more reference, and their hashes.
        """
        blocks: list[int | None] = []
        hashes: list[bytes] = []
        digest, found, since = hash_seed, 0, 0  # since: the first of the blocks that are there without a gap
        for end in range(self.block_size, len(tokens), self.block_size):
            digest = block_hash(digest, tokens[end - self.block_size : end])
            blocks.append(self._blocks.get(digest))
            hashes.append(digest)
            if blocks[-1] is None:
                since = len(blocks)
                if self.window is None:
                    break
            elif since <= self.first_seen(end):
                found = len(blocks)
        first = self.first_seen(found * self.block_size)
        taken = [SCRATCH] * first + [block for block in blocks[first:found] if block is not None]
        for block in taken[first:]:
            if self._ref_counts[block] == 0:
                del self._free[block]
            self._ref_counts[block] += 1
        return taken, hashes[:found]

    def _forget(self, block: int) -> None:
        digest = self._hashes.pop(block, None)
        if digest is not None:
            del self._blocks[digest]
