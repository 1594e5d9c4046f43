"""A step's tokens as the arrays that the network takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mindspore import Tensor

from mindcoder.errors import UserError
from mindcoder.generate.adapters import LoadedAdapters
from mindcoder.generate.blocks import SCRATCH
from mindcoder.generate.exported_decoder import ExportedDecoder, GraphSteps
from mindcoder.generate.paged_decoder import PagedDecoder, paged_decoder
from mindcoder.generate.pipeline import StagedDecoder
from mindcoder.models.decoder import Decoder
from mindcoder.models.rotary import rotary_angles
from mindcoder.parallel.process_groups import ProcessGroups
from mindcoder.peft.prefix import prefix_values


@dataclass(frozen=True)
class StepInput:
    """Tokens of one sequence to append to its cache.

    Attributes:
        tokens: their ids.
        start: position of the first.
        blocks: the sequence's cache blocks.
        num_logits: how many of the last tokens to compute logits for.
        prompt: length of the sequence's prompt (for dynamic rotary scaling, and for the way its tokens are computed).
        adapter: number of the sequence's adapter; 0 is the base model.
        length: of a sequence that is longer than what its rotary scaling changes at; 0 for all others.
    """

    tokens: Sequence[int]
    start: int
    blocks: Sequence[int]
    num_logits: int
    prompt: int
    adapter: int = 0
    length: int = 0


class Runner:
    """Runs steps of a decoder; two shapes are compiled, when first needed.

    Args:
        decoder: the network with its weights, or a pipeline stage of it; or an exported one.
        blocks: of the cache, the scratch block included.
        block_size: tokens of a block.
        max_length: longest sequence.
        max_num_seqs: sequences of a step.
        chunk: tokens of a step.
        max_num_logits: tokens of one sequence whose logits a step may compute.
        comm: the processes that hold the other stages.
        adapters: those of the network.

    A learned prefix of the network lies in blocks of its own, which all sequences begin with; a `StepInput` does not
    count it.

    Raises:
        UserError: the prefix does not fill whole blocks.
    """

    def __init__(
        self,
        decoder: Decoder | ExportedDecoder,
        blocks: int,
        block_size: int,
        max_length: int,
        max_num_seqs: int,
        chunk: int,
        max_num_logits: int = 1,
        comm: ProcessGroups | None = None,
        adapters: LoadedAdapters | None = None,
    ) -> None:
        self.config, self.block_size, self.adapters = decoder.config, block_size, adapters
        self.max_num_seqs, self.max_num_logits = max_num_seqs, max_num_logits
        self.chunk = max(chunk, max_num_seqs * max_num_logits)
        self.prefix = decoder.prefix_length
        if self.prefix % block_size:
            raise UserError(
                f"the prefix of {self.prefix} tokens is not a multiple of the cache's block_size {block_size}"
            )
        self.prefix_blocks = list(range(blocks, blocks + self.prefix // block_size))
        self.blocks_per_seq = -(-(max_length + self.prefix) // block_size)
        self.network = paged_decoder(decoder, blocks + len(self.prefix_blocks), block_size, adapters)
        self.network.set_train(False)
        self.supports_mixed_batches = self.network.supports_mixed_batches
        self._forward: PagedDecoder | StagedDecoder = self.network
        if isinstance(decoder, ExportedDecoder):
            return
        if self.prefix:
            self._cache_prefix(decoder)
        if comm is not None and comm.mesh.pipeline > 1:
            self._forward = StagedDecoder(self.network, decoder, comm)

    def run(self, inputs: Sequence[StepInput]) -> np.ndarray:
        """Logits float32 ``[num_logits of all inputs, V]``, in the inputs' order."""
        total = sum(len(item.tokens) for item in inputs)
        small = self.max_num_seqs * self.max_num_logits
        is_short = self.supports_mixed_batches or all(len(item.tokens) <= self.max_num_logits for item in inputs)
        fits = total <= small and is_short
        size = small if fits else self.chunk
        num_seqs = self.max_num_seqs if self.supports_mixed_batches or fits else 1
        ids = np.zeros(size, np.int32)
        mapping = np.zeros((3, size), np.int32)
        mapping[1] = SCRATCH * self.block_size + np.arange(size) % self.block_size
        block_tables = np.full((num_seqs, self.blocks_per_seq), SCRATCH, np.int32)
        longest = np.zeros(size, np.int64)
        generated = np.ones(size, bool)
        adapter_ids = np.zeros(size, np.int64)
        logits_indices: list[int] = []
        at = 0
        for row, item in enumerate(inputs):
            count = len(item.tokens)
            start, prompt = item.start + self.prefix, item.prompt + self.prefix
            own, positions = slice(at, at + count), np.arange(start, start + count)
            table = np.asarray([*self.prefix_blocks, *item.blocks], np.int32)
            ids[own] = item.tokens
            mapping[0, own] = positions
            mapping[1, own] = table[positions // self.block_size] * self.block_size + positions % self.block_size
            mapping[2, own] = row
            block_tables[row, : len(table)] = table
            longest[own] = np.maximum(positions + 1, max(prompt, item.length))
            generated[own] = positions >= prompt
            adapter_ids[own] = item.adapter
            logits_indices.extend(range(at + count - item.num_logits, at + count))
            at += count
        padded_indices = np.zeros(small, np.int32)
        padded_indices[: len(logits_indices)] = logits_indices
        prompts = 0
        if self.supports_mixed_batches:  # the tokens of prompts come first
            order = np.argsort(generated, kind="stable")
            ids, mapping, longest, adapter_ids = ids[order], mapping[:, order], longest[order], adapter_ids[order]
            padded_indices = np.argsort(order)[padded_indices].astype(np.int32)
            prompts = size - int(generated.sum())
        angles = np.zeros((1, 1), np.float32)
        if self.config.position == "rope":
            angles = rotary_angles(self.config, mapping[0], longest)
        adapted = self.adapters is not None and self.adapters.choose(adapter_ids)
        counts = np.array([total, len(logits_indices), prompts, adapted], np.int32)
        arrays = (ids, mapping, block_tables, angles, padded_indices, counts)
        logits = self._forward(*map(Tensor, arrays))
        return logits.asnumpy()[: len(logits_indices)]

    def _cache_prefix(self, decoder: Decoder) -> None:
        """Write a learned prefix into the blocks that all sequences begin with."""
        assert not isinstance(self.network, GraphSteps)
        size = self.block_size
        for layer, (keys, values) in enumerate(prefix_values(decoder)):
            for number, block in enumerate(self.prefix_blocks):
                part = slice(number * size, (number + 1) * size)
                self.network.write_block(layer, block, keys[part], values[part])

    def warm_up(self) -> None:
        """Compile both shapes, with tokens that go into the scratch block."""
        blocks = [SCRATCH] * (self.blocks_per_seq - len(self.prefix_blocks))
        longest = min(self.chunk, len(blocks) * self.block_size)
        for tokens in (1, longest):
            self.run([StepInput([0] * tokens, 0, blocks, 1, tokens)])
