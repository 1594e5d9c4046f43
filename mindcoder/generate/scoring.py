"""Logits of every token of a text, from the operators that generate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mindcoder.generate.adapters import LoadedAdapters
from mindcoder.generate.exported_decoder import ExportedDecoder
from mindcoder.generate.runner import Runner, StepInput
from mindcoder.models.decoder import Decoder


class Scorer:
    """Computes a text in chunks of one size, so that one graph serves texts of any length.

    Args:
        decoder: the network with its weights, or an exported one.
        max_length: longest text; the cache holds one.
        block_size: tokens of a cache block.
        chunk: tokens of a step.
        adapters: those of the network.
    """

    def __init__(
        self,
        decoder: Decoder | ExportedDecoder,
        max_length: int,
        block_size: int,
        chunk: int,
        adapters: LoadedAdapters | None = None,
    ) -> None:
        blocks = -(-max_length // block_size)
        self.blocks, self.vocab_size = list(range(1, blocks + 1)), decoder.config.vocab_size
        self.runner = Runner(
            decoder, blocks + 1, block_size, max_length, 1, chunk, max_num_logits=chunk, adapters=adapters
        )

    def chunks(self, ids: Sequence[int], adapter: int = 0) -> Iterator[np.ndarray]:
        """Float32 ``[chunk, V]`` after ``[chunk, V]`` for ``S`` ids, at most ``max_length``; the last may be shorter.

        Args:
            adapter: its number among them; 0 is the base model.
        """
        for begin in range(0, len(ids), self.runner.chunk):
            part = ids[begin : begin + self.runner.chunk]
            inputs = [StepInput(part, begin, self.blocks, len(part), len(ids), adapter)]
            yield self.runner.run(inputs)[:, : self.vocab_size]

    def logits(self, ids: Sequence[int], adapter: int = 0) -> np.ndarray:
        """`chunks`, concatenated: float32 ``[S, V]``."""
        return np.concatenate(list(self.chunks(ids, adapter)))
