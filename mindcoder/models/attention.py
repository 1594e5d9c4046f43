"""Causal self-attention with grouped key/value heads (multi-query attention when there is one group)."""

from __future__ import annotations

from typing import Any

from mindspore import Tensor, nn

from mindcoder.backend.attention import CausalAttention
from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.operators import ApplyRotary
from mindcoder.backend.row_operators import Fork
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.models.initializer import Initializer
from mindcoder.models.linear import Linear
from mindcoder.models.norm import Norm
from mindcoder.models.tensor_parallel import NO_TP, NoTensorParallel, Shard, key_value_shard


class SelfAttention(nn.Cell):
    """Query, key, value and output projections around `CausalAttention`.

    Args:
        config: sizes, dropout and initializer range.
        site: index of this layer's attention dropout.
        output_stddev: initial standard deviation of the output projection (scaled down with depth).
        tp: which heads this rank holds.
        rotates: whether queries and keys get rotary positions.

    ``cos_sin`` in the methods below is what `mindcoder.models.rotary.RotaryAngles` returns for the tokens'
    positions, or an empty tuple with learned position embeddings.
    """

    def __init__(
        self,
        config: TransformerConfig,
        site: int,
        initializer: Initializer,
        output_stddev: float,
        tp: NoTensorParallel = NO_TP,
        rotates: bool = True,
    ) -> None:
        super().__init__()
        local = tp.local(config)
        self.head_dim = config.head_dim
        self.query_size, self.kv_size = local.query_size, local.kv_size
        self.query_scale = config.query_scale
        dtypes = (initializer, config.param_dtype, config.compute_dtype)
        kv_shard = key_value_shard(config, tp.size)
        self.copy_to_region = tp.copy_to_region()
        self.query = Linear(config.hidden_size, config.query_size, *dtypes, config.qkv_bias, shard=Shard.COLUMN, tp=tp)
        self.key = Linear(config.hidden_size, config.kv_size, *dtypes, config.qkv_bias, shard=kv_shard, tp=tp)
        self.value = Linear(config.hidden_size, config.kv_size, *dtypes, config.qkv_bias, shard=kv_shard, tp=tp)
        self.output = Linear(
            config.query_size,
            config.hidden_size,
            *dtypes,
            config.output_bias,
            stddev=output_stddev,
            shard=Shard.ROW,
            tp=tp,
        )
        self.query_norm = Norm(config, initializer, config.head_dim) if config.qk_norm else None
        self.key_norm = Norm(config, initializer, config.head_dim) if config.qk_norm else None
        self.rotate = ApplyRotary(config.head_dim) if config.position == "rope" and rotates else None
        self.core = CausalAttention(
            *(local.num_heads, local.num_kv_heads, config.head_dim, config.attention_dropout, site),
            *(resolve_dtype(config.compute_dtype), config.sliding_window),
        )
        self.share = Fork(3)
        self.gather_context: Any = None  # keys and values of whole rows, see `mindcoder.parallel.context_parallel`
        self.prefix: Any = None  # learned keys and values before the sequence, see `mindcoder.peft.prefix`

    def query_with_rope(self, hidden_states: Tensor, cos_sin: tuple, seed: Tensor | None = None) -> Tensor:
        """Queries with their norm, RoPE and the attention scale applied: ``[B*S, H] -> [B*S, N*D]``."""
        query = self.query(hidden_states, seed=seed)
        if self.query_norm is not None:
            query = self.query_norm(query.reshape((-1, self.head_dim))).reshape((-1, self.query_size))
        if self.rotate is None:
            return query * self.query_scale
        return self.rotate(query.reshape((-1, self.head_dim)), cos_sin[0], cos_sin[1]).reshape((-1, self.query_size))

    def key_with_rope(self, hidden_states: Tensor, cos_sin: tuple, seed: Tensor | None = None) -> Tensor:
        """Keys with their norm and RoPE applied, as they are attended to and cached: ``[B*S, H] -> [B*S, K*D]``."""
        key = self.key(hidden_states, seed=seed)
        if self.key_norm is not None:
            key = self.key_norm(key.reshape((-1, self.head_dim))).reshape((-1, self.kv_size))
        if self.rotate is None:
            return key
        return self.rotate(key.reshape((-1, self.head_dim)), cos_sin[2], cos_sin[3]).reshape((-1, self.kv_size))

    def construct(
        self, hidden_states: Tensor, cos_sin: tuple, mask: Tensor, seed: Tensor, batch: int, length: int
    ) -> Tensor:
        """Attention within the sequence: ``[B*S, H] -> [B*S, H]``; ``mask`` comes from `AttentionMasks`."""
        if self.copy_to_region is not None:
            hidden_states = self.copy_to_region(hidden_states)
        for_query, for_key, for_value = self.share(hidden_states)
        key, value = self.key_with_rope(for_key, cos_sin, seed), self.value(for_value, seed=seed)
        total = length
        if self.gather_context is not None:
            key, value = self.gather_context(key, value, batch)
        if self.prefix is not None:
            key, value = self.prefix(key, value, batch, seed)
            total = key.shape[0] // batch
        query = self.query_with_rope(for_query, cos_sin, seed)
        return self.output(self.core(query, key, value, mask, seed, batch, length, total), seed=seed)

    def attend_to_cache(
        self,
        hidden_states: Tensor,
        cos_sin: tuple,
        key_cache: Tensor,
        value_cache: Tensor,
        mask: Tensor,
        batch: int,
        length: int,
    ) -> Tensor:
        """Attention to cached keys and values ``[B, T, K*D]``: ``[B*S, H] -> [B*S, H]``."""
        total = key_cache.shape[1]
        key, value = key_cache.reshape((-1, self.kv_size)), value_cache.reshape((-1, self.kv_size))
        query = self.query_with_rope(hidden_states, cos_sin)
        return self.output(self.core.cached(query, key, value, mask, batch, length, total))
