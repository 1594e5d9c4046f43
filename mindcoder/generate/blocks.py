"""Blocks of the key/value cache: who has which, and which already hold a prompt's beginning.

Full blocks are known by the tokens in them and before them (a chain of hashes), so a prompt that begins as an earlier
one did takes its blocks over (vLLM's automatic prefix caching). A block that nobody has keeps its contents until it
is needed; the one that has waited longest goes first.
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
    """Counts who has each block; block 0 is `SCRATCH` and never given out.

    Args:
        blocks: how many there are, the scratch block included.
        block_size: tokens a block holds.
        reuses_prefixes: whether blocks are found again by their tokens.
    """

    def __init__(self, blocks: int, block_size: int, reuses_prefixes: bool = True) -> None:
        self.block_size, self.reuses_prefixes = block_size, reuses_prefixes
        self._owners = [0] * blocks
        self._free: OrderedDict[int, None] = OrderedDict((block, None) for block in range(1, blocks))
        self._hashes: dict[int, bytes] = {}
        self._blocks: dict[bytes, int] = {}

    @property
    def usable(self) -> int:
        """Blocks that sequences can have."""
        return len(self._owners) - 1

    @property
    def free(self) -> int:
        """Free blocks."""
        return len(self._free)

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold ``tokens``."""
        return -(-tokens // self.block_size)

    def take(self) -> int | None:
        """An empty block; None when all are taken."""
        if not self._free:
            return None
        block, _ = self._free.popitem(last=False)
        self._forget(block)
        self._owners[block] = 1
        return block

    def release(self, block: int) -> None:
        """One owner less."""
        self._owners[block] -= 1
        assert self._owners[block] >= 0, f"block {block} was released twice"
        if self._owners[block] == 0:
            self._free[block] = None
            if block not in self._hashes:
                self._free.move_to_end(block, last=False)  # nothing worth keeping in it

    def register(self, block: int, digest: bytes) -> None:
        """Remember what a full block holds; the first block with a hash stays the known one."""
        if self.reuses_prefixes and digest not in self._blocks:
            self._blocks[digest], self._hashes[block] = block, digest

    def take_prefix(self, tokens: Sequence[int], hash_seed: bytes = b"") -> tuple[list[int], list[bytes]]:
        """Blocks that hold the beginning of ``tokens``, taken, and their hashes; one token at least is left over.

        Args:
            hash_seed: what the chain of hashes begins with.
        """
        blocks: list[int] = []
        hashes: list[bytes] = []
        digest = hash_seed
        for end in range(self.block_size, len(tokens), self.block_size):
            digest = block_hash(digest, tokens[end - self.block_size : end])
            block = self._blocks.get(digest)
            if block is None:
                break
            if self._owners[block] == 0:
                del self._free[block]
            self._owners[block] += 1
            blocks.append(block)
            hashes.append(digest)
        return blocks, hashes

    def _forget(self, block: int) -> None:
        digest = self._hashes.pop(block, None)
        if digest is not None:
            del self._blocks[digest]
