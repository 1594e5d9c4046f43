"""A decoder's step as a graph of operators, on any device; shards of layers, too."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.paged_attention import PagedAttention
from mindcoder.backend.row_operators import Cut, LookUp, WriteRows
from mindcoder.generate.kv_pools import key_value_pools
from mindcoder.models.decoder import Decoder


class OperatorDecoder(nn.Cell):
    """Appends tokens of several sequences to their caches and gives logits.

    A step computes S tokens for each of B sequences, one sequence after the other; ``block_tables`` has B rows.
    Padding writes to the scratch block, which no table names.

    Steps of one token per sequence read the cache through its block tables with `PagedAttention`: on Ascend in float16
    and bfloat16, on CPU always. For several tokens per sequence aclnnFusedInferAttentionScore requires blocks of 128
    tokens, so chunks of a prompt attend to the gathered cache, as float32 always does. PagedAttention and
    ReshapeAndCache of MindSpore 2.9 are not an alternative: without the internal kernels of ``infer_boost`` there is
    no such function in CANN's releases, and the latter refuses float32; aclnnInplaceIndexCopy writes the cache in
    every dtype.

    Args:
        decoder: the network, a pipeline stage or a shard of it; its cells know their adapters.
        blocks: of the cache, the scratch block included.
        block_size: tokens of a block.
        pages: whether steps of one token a sequence may take `PagedAttention`, where there is one.
    """

    supports_mixed_batches = False  # a step holds one prompt's tokens or one token of each sequence

    def __init__(self, decoder: Decoder, blocks: int, block_size: int, pages: bool = True) -> None:
        super().__init__(auto_prefix=False)
        self.decoder, self.block_size = decoder, block_size
        self.write, self.look_up = WriteRows(), LookUp()
        self.cut = Cut()
        self.keys, self.values = key_value_pools(decoder, blocks, block_size, self.pool_dtype(decoder))
        local = decoder.local_config
        self.windowed = local.sliding_window is not None
        self.pages = pages and PagedAttention.fits(decoder.layers[0].attention.core, block_size)
        self.paged = PagedAttention(local.num_heads, local.num_kv_heads, block_size)

    @staticmethod
    def pool_dtype(decoder: Decoder) -> ms.dtype.Number:
        """Dtype that keys and values are kept in."""
        return resolve_dtype(decoder.config.compute_dtype)

    def construct(
        self,
        inputs: Tensor,
        mapping: Tensor,
        block_tables: Tensor,
        angles: Tensor,
        logits_indices: Tensor,
        counts: Tensor,
    ) -> Tensor:
        """One step.

        Args:
            inputs: int32 ids ``[Q]``; on a stage that is not the first one, the hidden states of the one before.
            mapping: int32 ``[3, Q]``: each token's position, its slot in the cache (vLLM's slot mapping), and its
                sequence's row of ``block_tables``.
            block_tables: int32 ``[B, M]``: the blocks of each sequence.
            angles: float32 ``[Q, D]``, see `mindcoder.models.rotary.rotary_angles`; ``[1, 1]`` where positions are
                learned.
            logits_indices: int32 ``[I]``, the tokens whose logits are computed.
            counts: int32 ``[4]``: how many of Q and I are meant, the rest is padding; how many of Q are tokens of
                prompts, which come first where steps may mix; and whether any token has an adapter.

        Returns:
            float32 ``[I, V]``; on a stage that is not the last one, hidden states ``[Q, H]`` for the next.
        """
        positions = self.cut(mapping, 0, 1).reshape((-1,))
        slot_mapping = self.cut(mapping, 1, 2).reshape((-1,))
        return self.compute(inputs, positions, slot_mapping, block_tables, angles, logits_indices)

    def compute(
        self,
        inputs: Tensor,
        positions: Tensor,
        slot_mapping: Tensor,
        block_tables: Tensor,
        angles: Tensor | None,
        logits_indices: Tensor,
    ) -> Tensor:
        """The step; ``positions`` and ``slot_mapping`` are int32 ``[Q]``."""
        decoder = self.decoder
        # Before the first write: MindSpore copies a table that it reads before and after one, in every step.
        head = decoder.logits_weight() if decoder.stage.is_last else None
        hidden_states = decoder.embed_tokens(inputs)
        if decoder.stage.is_first:
            hidden_states = decoder.embed(hidden_states, positions, Tensor(0, ms.int32))
        batch, blocks = block_tables.shape
        length = positions.shape[0] // batch
        cos_sin = () if decoder.rotary is None else decoder.rotary.spread(angles)
        mask = decoder.attention_masks.cached(positions.reshape((batch, length)), blocks * self.block_size)
        offsets = ops.arange(0, self.block_size, 1, dtype=ms.int32).reshape((1, self.block_size))
        read = (block_tables.reshape((-1, 1)) * self.block_size + offsets).reshape((-1,))
        lengths = positions + 1
        for index in range(len(decoder.layers)):
            layer = decoder.layers[index]
            normed = layer.attention_norm(hidden_states)
            key, value = layer.attention.key_with_rope(normed, cos_sin), layer.attention.value(normed)
            stored = self.store(index, key, value, slot_mapping)
            normed, slots = ops.depend(normed, stored), ops.depend(read, stored)
            attn_output = self.attend(index, normed, (cos_sin, slots, block_tables, lengths, mask))
            hidden_states = layer.after_attention(hidden_states, attn_output)
        if not decoder.stage.is_last:
            return hidden_states
        return decoder.logits(decoder.final_norm_output(self.look_up(hidden_states, logits_indices)), head)

    def write_block(self, layer: int, block: int, keys: np.ndarray, values: np.ndarray) -> None:
        """Write keys and values ``[block_size, K*D]`` into a block of a layer's cache, without computing anything."""
        for pool, new in ((self.keys[layer], keys), (self.values[layer], values)):
            cached = ops.cast(pool, ms.float32).asnumpy().copy()
            cached.reshape(-1, self.block_size, new.shape[1])[block] = new
            pool.set_data(Tensor(cached.reshape(pool.shape), pool.dtype))

    def store(self, index: int, key: Tensor, value: Tensor, slot_mapping: Tensor) -> tuple:
        """Write ``[Q, K*D]`` into the slots of a layer's cache; returns what later reads depend on."""
        return self.write(self.keys[index], slot_mapping, key), self.write(self.values[index], slot_mapping, value)

    def attend(self, index: int, normed: Tensor, step: tuple) -> Tensor:
        """Attention of the step's tokens to the sequences in a layer's cache: ``[Q, H] -> [Q, H]``.

        Args:
            index: of the layer, here.
            step: rotary angles; all slots of the sequences ``[B * M * block_size]``; their block tables ``[B, M]``; how
                many tokens each token sees, itself included, ``[Q]``; and the masks of the grid.
        """
        cos_sin, _, block_tables, lengths, mask = step
        batch = block_tables.shape[0]
        if not self.pages or normed.shape[0] != batch:
            return self.attend_gathered(index, normed, step)
        layer, keys, values = self.decoder.layers[index], self.keys[index], self.values[index]
        # Queries come scaled, by cos/sin or before.
        query = layer.attention.query_with_rope(normed, cos_sin)
        window = mask if self.windowed else None  # the order alone is in the lengths
        return layer.attention.output(self.paged(query, keys, values, window, lengths, block_tables))

    def attend_gathered(self, index: int, normed: Tensor, step: tuple) -> Tensor:
        """The same for any grid: the sequences' keys and values are gathered first."""
        cos_sin, slots, block_tables, _, mask = step
        batch = block_tables.shape[0]
        keys, values = self.sequences(index, slots, batch)
        length = normed.shape[0] // batch
        attention = self.decoder.layers[index].attention
        return attention.attend_to_cache(normed, cos_sin, keys, values, mask, batch, length)

    def sequences(self, index: int, slots: Tensor, batch: int) -> tuple:
        """Keys and values that the sequences' blocks hold: ``[B, M * block_size, K*D]``."""
        return self.sequence(self.keys[index], slots, batch), self.sequence(self.values[index], slots, batch)

    def sequence(self, pool: Parameter, slots: Tensor, batch: int) -> Tensor:
        """The keys, or the values."""
        size = self.decoder.local_config.kv_size
        return self.look_up(pool.reshape((-1, size)), slots).reshape((batch, -1, size))
