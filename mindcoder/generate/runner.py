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
        length: current length of a sequence that has outgrown the original context of longrope; 0 for all others.
    """

    tokens: Sequence[int]
    start: int
    blocks: Sequence[int]
    num_logits: int
    prompt: int
    adapter: int = 0
    length: int = 0


class StepArrays:
    """The arrays of a step, filled one sequence after the other; the rest is padding, which the scratch block takes.

    Args:
        size: tokens, Q.
        tables: shape of the block tables, B sequences and M blocks.
        logits: tokens whose logits are computed, I.
        block_size: tokens of a cache block.

    Attributes:
        ids: int32 ``[Q]``.
        mapping: int32 ``[3, Q]``: each token's position, its slot in the cache, and its sequence's row of
            ``block_tables``.
        block_tables: int32 ``[B, M]``.
        longest: int64 ``[Q]``, length of each token's sequence, see `mindcoder.models.rotary.rotary_angles`.
        is_generated: bool ``[Q]``, whether a token comes after its sequence's prompt; padding counts as such.
        adapter_ids: int64 ``[Q]``; 0 is the base model.
        logits_indices: int32 ``[I]``.
        num_tokens, num_seqs, num_logits: how many have been filled.
    """

    def __init__(self, size: int, tables: tuple[int, int], logits: int, block_size: int) -> None:
        self.block_size = block_size
        self.ids = np.zeros(size, np.int32)
        self.mapping = np.zeros((3, size), np.int32)
        self.mapping[1] = SCRATCH * block_size + np.arange(size) % block_size
        self.block_tables = np.full(tables, SCRATCH, np.int32)
        self.longest = np.zeros(size, np.int64)
        self.is_generated = np.ones(size, bool)
        self.adapter_ids = np.zeros(size, np.int64)
        self.logits_indices = np.zeros(logits, np.int32)
        self.num_tokens = self.num_seqs = self.num_logits = 0

    def append(self, item: StepInput, prefix_blocks: list[int]) -> None:
        """Append the tokens of a sequence, which begins with the blocks of the learned prefix."""
        prefix = len(prefix_blocks) * self.block_size
        start, prompt = item.start + prefix, item.prompt + prefix
        end = self.num_tokens + len(item.tokens)
        own, positions = slice(self.num_tokens, end), np.arange(start, start + len(item.tokens))
        table = np.asarray([*prefix_blocks, *item.blocks], np.int32)
        slot_mapping = table[positions // self.block_size] * self.block_size + positions % self.block_size
        self.ids[own] = item.tokens
        self.mapping[0, own], self.mapping[1, own], self.mapping[2, own] = positions, slot_mapping, self.num_seqs
        self.block_tables[self.num_seqs, : len(table)] = table
        self.longest[own] = np.maximum(positions + 1, max(prompt, item.length))
        self.is_generated[own] = positions >= prompt
        self.adapter_ids[own] = item.adapter
        logits = slice(self.num_logits, self.num_logits + item.num_logits)
        self.logits_indices[logits] = np.arange(end - item.num_logits, end)
        self.num_tokens, self.num_seqs, self.num_logits = end, self.num_seqs + 1, logits.stop

    def put_prompts_first(self) -> int:
        """Reorder the tokens, those of prompts before all others; how many these are."""
        order = np.argsort(self.is_generated, kind="stable")
        self.ids, self.mapping = self.ids[order], self.mapping[:, order]
        self.longest, self.adapter_ids = self.longest[order], self.adapter_ids[order]
        self.logits_indices = np.argsort(order)[self.logits_indices].astype(np.int32)
        return len(order) - int(self.is_generated.sum())


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
        arrays = self._arrays(inputs)
        num_prompt_tokens = arrays.put_prompts_first() if self.supports_mixed_batches else 0
        angles = np.zeros((1, 1), np.float32)
        if self.config.position == "rope":
            angles = rotary_angles(self.config, arrays.mapping[0], arrays.longest)
        adapted = self.adapters is not None and self.adapters.choose(arrays.adapter_ids)
        counts = np.array([arrays.num_tokens, arrays.num_logits, num_prompt_tokens, adapted], np.int32)
        taken = (arrays.ids, arrays.mapping, arrays.block_tables, angles, arrays.logits_indices, counts)
        logits = self._forward(*map(Tensor, taken))
        return logits.asnumpy()[: arrays.num_logits]

    def _arrays(self, inputs: Sequence[StepInput]) -> StepArrays:
        """The inputs in arrays of the smaller of both shapes that they fit."""
        total = sum(len(item.tokens) for item in inputs)
        small = self.max_num_seqs * self.max_num_logits
        is_short = self.supports_mixed_batches or all(len(item.tokens) <= self.max_num_logits for item in inputs)
        fits = total <= small and is_short
        num_seqs = self.max_num_seqs if self.supports_mixed_batches or fits else 1
        arrays = StepArrays(small if fits else self.chunk, (num_seqs, self.blocks_per_seq), small, self.block_size)
        for item in inputs:
            arrays.append(item, self.prefix_blocks)
        return arrays

    def _cache_prefix(self, decoder: Decoder) -> None:
        """Write a learned prefix into the blocks that all sequences begin with."""
        assert not isinstance(self.network, GraphSteps)
        size = self.block_size
        for layer, (keys, values) in enumerate(prefix_values(decoder)):
            for number, block in enumerate(self.prefix_blocks):
                part = slice(number * size, (number + 1) * size)
                self.network.write_block(layer, block, keys[part], values[part])

    def warm_up(self) -> None:
        """Compile both shapes, with tokens that go into the scratch block: the fewest that need the larger shape."""
        blocks = [SCRATCH] * (self.blocks_per_seq - len(self.prefix_blocks))
        longest = min(self.chunk, len(blocks) * self.block_size)
        for tokens in (1, min(longest, self.max_num_seqs * self.max_num_logits + 1)):
            self.run([StepInput([0] * tokens, 0, blocks, 1, tokens)])
