"""The decoder network that `TransformerConfig` drives."""

from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.device import resolve_dtype
from mindcoder.models.attention import AttentionBias, SelfAttention
from mindcoder.models.dropout import CounterDropout
from mindcoder.models.embedding import Embedding
from mindcoder.models.initializer import Initializer
from mindcoder.models.mlp import MLP
from mindcoder.models.norm import Norm
from mindcoder.models.rotary import RotaryAngles
from mindcoder.models.slices import WHOLE, WholeLayers
from mindcoder.models.transformer_config import TOKEN_TABLES, TransformerConfig

SITES_PER_LAYER = 3  # attention probabilities, attention output, MLP output


class DecoderLayer(nn.Cell):
    """Pre-norm attention and MLP, each added to the residual stream ``[B*S, H]``."""

    def __init__(
        self, config: TransformerConfig, index: int, initializer: Initializer, slices: WholeLayers = WHOLE
    ) -> None:
        super().__init__()
        param_dtype = resolve_dtype(config.param_dtype)
        compute_dtype = resolve_dtype(config.compute_dtype)
        # Residual branches start smaller the deeper the network is (GPT-2, section 2.3).
        output_stddev = config.initializer_range / (2 * config.num_layers) ** 0.5
        site = 1 + index * SITES_PER_LAYER
        self.attention_norm = Norm(config, initializer)
        self.attention = SelfAttention(
            config,
            site,
            initializer,
            output_stddev,
            param_dtype,
            compute_dtype,
            resolve_dtype(config.softmax_dtype),
            slices,
        )
        self.mlp_norm = Norm(config, initializer)
        self.mlp = MLP(config, initializer, output_stddev, param_dtype, compute_dtype, slices)
        drops = config.hidden_dropout > 0.0
        self.attention_dropout = CounterDropout(config.hidden_dropout, site + 1) if drops else None
        self.mlp_dropout = CounterDropout(config.hidden_dropout, site + 2) if drops else None

    def construct(self, rows: Tensor, rotation: tuple, bias: Tensor, seed: Tensor, batch: int, length: int) -> Tensor:
        attended = self.attention(self.attention_norm(rows), rotation, bias, seed, batch, length)
        if self.attention_dropout is not None:
            attended = self.attention_dropout(attended, seed)
        rows = rows + attended
        expanded = self.mlp(self.mlp_norm(rows))
        if self.mlp_dropout is not None:
            expanded = self.mlp_dropout(expanded, seed)
        return rows + expanded

    def finish_cached(
        self,
        rows: Tensor,
        normed: Tensor,
        rotation: tuple,
        key_cache: Tensor,
        value_cache: Tensor,
        bias: Tensor,
        batch: int,
        length: int,
    ) -> Tensor:
        """The layer once its keys and values are in the cache; no dropout. ``normed`` is ``attention_norm(rows)``."""
        rows = rows + self.attention.attend_cache(normed, rotation, key_cache, value_cache, bias, batch, length)
        return rows + self.mlp(self.mlp_norm(rows))


class Decoder(nn.Cell):
    """Embeddings, layers, the final norm, and the head: the token embedding or a matrix of its own.

    Args:
        config: the architecture.
        seed: of the start values.
        empty: leave weights at zero because they are loaded right after.
        slices: this process's part of every layer.

    Parameter names are global names, those of ``config.parameter_shapes()``: the same in every layout and in
    checkpoints.
    """

    def __init__(
        self, config: TransformerConfig, seed: int = 0, empty: bool = False, slices: WholeLayers = WHOLE
    ) -> None:
        super().__init__()
        self.config, self.slices = config, slices
        local = self.local_config = slices.local(config)
        initializer = Initializer(seed, config.initializer_range, empty, slices)
        param_dtype = resolve_dtype(config.param_dtype)
        compute_dtype = resolve_dtype(config.compute_dtype)
        embedding = (config.hidden_size, initializer, param_dtype, compute_dtype)
        self.token_embedding = Embedding(config.token_rows, *embedding)
        self.position_embedding = None
        self.rotary = None
        if config.position == "learned":
            self.position_embedding = Embedding(config.max_position_embeddings, *embedding)
        else:
            self.rotary = RotaryAngles(local, compute_dtype)
        self.layers = nn.CellList(
            [DecoderLayer(config, index, initializer, slices) for index in range(config.num_layers)]
        )
        self.final_norm = Norm(config, initializer)
        self.head = None if config.tied_head else Head(config, initializer, param_dtype)
        self.embedding_dropout = CounterDropout(config.embedding_dropout, 0) if config.embedding_dropout > 0 else None
        self.attention_bias = AttentionBias(local, resolve_dtype(config.softmax_dtype))
        self.head_product = ops.MatMul(transpose_b=True)
        self.compute_dtype = compute_dtype
        self.vocab_size = config.vocab_size
        self.is_padded = config.token_rows > config.vocab_size
        _clear_padding(self, config)

    def begin(self, token_rows: Tensor, position_ids: Tensor, seed: Tensor) -> Tensor:
        """What enters the first layer, from looked-up token embeddings; ``[B*S, H]`` both."""
        rows = token_rows
        if self.position_embedding is not None:
            rows = rows + self.position_embedding(position_ids)
        if self.embedding_dropout is not None:
            rows = self.embedding_dropout(rows, seed)
        return rows

    def rotation(self, position_ids: Tensor, longest: Tensor) -> tuple:
        """Rotary angles for all layers, see `RotaryAngles`; an empty tuple where positions are learned."""
        if self.rotary is None:
            return ()
        return self.rotary(position_ids, longest)

    def run_layers(self, token_rows: Tensor, position_ids: Tensor, document_ids: Tensor, seed: Tensor) -> Tensor:
        """From looked-up token embeddings ``[B*S, H]`` to the final norm's output ``[B*S, H]``.

        See `construct` for the other arguments.
        """
        batch, length = position_ids.shape
        rows = self.begin(token_rows, position_ids, seed)
        rotation = self.rotation(position_ids, position_ids.max() + 1)
        bias = self.attention_bias(document_ids)
        for layer in self.layers:
            rows = layer(rows, rotation, bias, seed, batch, length)
        return self.final_norm(rows)

    def construct(self, input_ids: Tensor, position_ids: Tensor, document_ids: Tensor, seed: Tensor) -> Tensor:
        """Hidden states after the final norm.

        Args:
            input_ids: int32 ``[B, S]``.
            position_ids: int32 ``[B, S]``, restarting at 0 in every document.
            document_ids: int32 ``[B, S]``; tokens see earlier tokens of the same document only.
            seed: int32 scalar of this step's dropout.

        Returns:
            ``[B*S, H]`` in the compute dtype.
        """
        return self.run_layers(self.token_embedding(input_ids), position_ids, document_ids, seed)

    def head_weight(self) -> Tensor:
        """The head's ``[V, H]`` in the compute dtype, without padding rows."""
        weight = self.token_embedding.weight if self.head is None else self.head.weight
        if self.is_padded:
            weight = weight[: self.vocab_size]
        return ops.cast(weight, self.compute_dtype)

    def logits(self, rows: Tensor) -> Tensor:
        """``[rows, H] -> [rows, V]`` in float32."""
        return ops.cast(self.head_product(rows, self.head_weight()), ms.float32)


class Head(nn.Cell):
    """The matrix of a head that is not tied to the token embedding; `Decoder.logits` multiplies by it."""

    def __init__(self, config: TransformerConfig, initializer: Initializer, param_dtype: ms.dtype.Number) -> None:
        super().__init__()
        values = initializer.normal((config.token_rows, config.hidden_size), param_dtype)
        self.weight = Parameter(values, name="weight")


def _clear_padding(decoder: Decoder, config: TransformerConfig) -> None:
    """Zero the rows beyond the vocabulary, whatever they were drawn as."""
    if config.token_rows == config.vocab_size:
        return
    for name, parameter in decoder.parameters_and_names():
        if name in TOKEN_TABLES:
            values = parameter.asnumpy().copy()
            values[config.vocab_size :] = 0
            parameter.set_data(Tensor(values, parameter.dtype))
