"""Blocks of the key/value cache: reference counts, and which blocks hold the beginning of a prompt.

Full blocks are identified by a hash of their tokens and of all tokens before them, so a prompt that begins like an
earlier one reuses its blocks (vLLM's automatic prefix caching). A free block keeps its contents until it is needed; the
one that has been free longest goes first.
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


class BlockPool:
    """Allocates blocks and counts their references; block 0 is `SCRATCH` and is never allocated.

    Args:
        blocks: how many there are, the scratch block included.
        block_size: tokens a block holds.
        reuses_prefixes: whether blocks are found again by their tokens.
    """

    def __init__(self, blocks: int, block_size: int, reuses_prefixes: bool = True) -> None:
        self.block_size, self.reuses_prefixes = block_size, reuses_prefixes
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

        Args:
            hash_seed: what the chain of hashes begins with.

        Returns:
            The blocks, now with one more reference, and their hashes.
        """
        blocks: list[int] = []
        hashes: list[bytes] = []
        digest = hash_seed
        for end in range(self.block_size, len(tokens), self.block_size):
            digest = block_hash(digest, tokens[end - self.block_size : end])
            block = self._blocks.get(digest)
            if block is None:
                break
            if self._ref_counts[block] == 0:
                del self._free[block]
            self._ref_counts[block] += 1
            blocks.append(block)
            hashes.append(digest)
        return blocks, hashes

    def _forget(self, block: int) -> None:
        digest = self._hashes.pop(block, None)
        if digest is not None:
            del self._blocks[digest]
