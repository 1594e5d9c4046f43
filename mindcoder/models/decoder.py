"""The decoder network that a `TransformerConfig` describes."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.attention import AttentionMasks
from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.dropout import CounterDropout
from mindcoder.backend.operators import matrix_product
from mindcoder.backend.row_operators import Cut, Fork
from mindcoder.families.parameter_names import in_layer
from mindcoder.families.transformer_config import TOKEN_TABLES, TransformerConfig
from mindcoder.models.attention import SelfAttention
from mindcoder.models.embedding import Embedding
from mindcoder.models.initializer import Initializer
from mindcoder.models.linear import Linear
from mindcoder.models.mlp import MLP
from mindcoder.models.norm import Norm
from mindcoder.models.rotary import RotaryAngles
from mindcoder.models.stage import Stage
from mindcoder.models.tensor_parallel import NO_TP, NoTensorParallel

DROPOUTS_PER_LAYER = 3  # sites: attention probabilities, attention output, MLP output
RANK_SITE_OFFSET = 1 << 16  # between the dropout sites of tensor-parallel ranks
RANK_SEED = 0x3C6EF35F  # offset between the dropout seeds of ranks that hold different tokens
TOKEN_PART, POSITION_PART, HEAD_PART, FIRST_LAYER_PART = range(4)  # seeds of the initializer


class DecoderLayer(nn.Cell):
    """Pre-norm attention and MLP, each added to the residual stream ``[B*S, H]``."""

    def __init__(
        self, config: TransformerConfig, index: int, initializer: Initializer, tp: NoTensorParallel = NO_TP
    ) -> None:
        super().__init__()
        # Residual branches are initialized smaller in deeper networks (GPT-2, section 2.3).
        output_stddev = config.initializer_range / (2 * config.num_layers) ** 0.5
        site = 1 + index * DROPOUTS_PER_LAYER
        self.attention_norm = Norm(config, initializer)
        self.attention = SelfAttention(
            config,
            site + tp.index * RANK_SITE_OFFSET,  # heads of different ranks drop different probabilities
            initializer,
            output_stddev,
            tp,
            config.rotates(index),
        )
        self.multiplier = config.residual_multiplier
        self.mlp_norm = Norm(config, initializer)
        self.mlp = MLP(config, initializer, output_stddev, tp)
        drops = config.hidden_dropout > 0.0
        self.attention_dropout = CounterDropout(config.hidden_dropout, site + 1) if drops else None
        self.mlp_dropout = CounterDropout(config.hidden_dropout, site + 2) if drops else None
        self.attention_share, self.mlp_share = Fork(2), Fork(2)
        self.seed_offset = tp.index * RANK_SEED & 0x7FFFFFFF if tp.sequence else 0

    def construct(
        self, hidden_states: Tensor, cos_sin: tuple, mask: Tensor, seed: Tensor, batch: int, length: int
    ) -> Tensor:
        residual, hidden_states = self.attention_share(hidden_states)
        attn_output = self.attention(self.attention_norm(hidden_states), cos_sin, mask, seed, batch, length)
        if self.attention_dropout is not None:
            attn_output = self.attention_dropout(attn_output, seed + self.seed_offset)
        residual, hidden_states = self.mlp_share(residual + self.scaled(attn_output))
        mlp_output = self.mlp(self.mlp_norm(hidden_states), seed)
        if self.mlp_dropout is not None:
            mlp_output = self.mlp_dropout(mlp_output, seed + self.seed_offset)
        return residual + self.scaled(mlp_output)

    def scaled(self, output: Tensor) -> Tensor:
        """What attention or MLP add to the residual stream, of their output."""
        return output if self.multiplier == 1.0 else output * self.multiplier

    def after_attention(self, hidden_states: Tensor, attn_output: Tensor) -> Tensor:
        """The rest of the layer after attention to a KV cache; no dropout."""
        hidden_states = hidden_states + self.scaled(attn_output)
        return hidden_states + self.scaled(self.mlp(self.mlp_norm(hidden_states)))


class Decoder(nn.Cell):
    """Embeddings, layers, final norm, and the head: tied to the token embedding or a matrix of its own.

    Args:
        config: the architecture.
        seed: of the initial weights.
        empty: touch no memory of matrices because their values are loaded right after.
        tp: this rank's part of every layer (tensor parallelism).
        stage: the layers on this rank (pipeline parallelism); all by default.

    Parameter names are global, those of ``config.parameter_shapes()``: the same in every parallel layout and in
    checkpoints.

    Attributes:
        kv_cache: how generation keeps keys and values, see `mindcoder.generate.kv_kinds`.
        kv_scales: with int8, `mindcoder.checkpoint.kv_scales.KvScales` of each layer on this stage; None if tokens have
            scales of their own.
    """

    def __init__(
        self,
        config: TransformerConfig,
        seed: int = 0,
        empty: bool = False,
        tp: NoTensorParallel = NO_TP,
        stage: Stage | None = None,
    ) -> None:
        super().__init__()
        self.config, self.tp = config, tp
        self.stage = stage = stage or Stage(range(config.num_layers))
        local = self.local_config = tp.local(config)
        initializer = Initializer(seed, config.initializer_range, empty, tp)
        param_dtype = resolve_dtype(config.param_dtype)
        compute_dtype = resolve_dtype(config.compute_dtype)
        table_axis, stddev = tp.axis(TOKEN_TABLES[0], config), config.embedding_deviation or None
        self.token_embedding: Any = None
        self.position_embedding: Any = None
        self.rotary: Any = None
        if stage.holds(TOKEN_TABLES[0], config.tied_head):
            self.token_embedding = Embedding(
                config.token_rows,
                config.hidden_size,
                initializer.at(TOKEN_PART),
                resolve_dtype(config.embedding_dtype or config.param_dtype),
                compute_dtype,
                table_axis,
                tp,
                stddev,
            )
        if config.position == "rope":
            self.rotary = RotaryAngles(local, compute_dtype)
        elif stage.is_first:
            self.position_embedding = Embedding(
                config.max_position_embeddings,
                config.hidden_size,
                initializer.at(POSITION_PART),
                param_dtype,
                compute_dtype,
                stddev=stddev,
            )
        self.layers = nn.CellList(
            [DecoderLayer(config, layer, initializer.at(FIRST_LAYER_PART + layer), tp) for layer in stage.layers]
        )
        self.final_norm: Any = Norm(config, initializer) if stage.is_last else None
        has_head = stage.is_last and not config.tied_head
        self.head = Head(config, initializer.at(HEAD_PART), param_dtype, table_axis) if has_head else None
        self.embedding_dropout = CounterDropout(config.embedding_dropout, 0) if config.embedding_dropout > 0 else None
        self.attention_masks = AttentionMasks(config.sliding_window, config.attention_dropout)
        self.own_positions: Any = None  # of this rank's tokens, see `mindcoder.parallel.context_parallel`
        self.scatter_sequence, self.gather_sequence = tp.scatter_sequence(), tp.gather_sequence()
        self.gather_logits = tp.gather_logits()
        self.head_product = matrix_product(transpose_b=True, compute_dtype=config.compute_dtype)
        self.cut_rows, self.cut_columns = Cut(0), Cut(1)
        self.embedding_multiplier, self.logits_multiplier = config.embedding_multiplier, 1.0 / config.logits_scaling
        self.compute_dtype = compute_dtype
        self.vocab_size = config.vocab_size
        self.kv_cache = "float"
        self.kv_scales: Any = None
        self.local_vocab_size = config.vocab_size
        if table_axis is not None:
            begin, end = tp.shard_range_of(config.token_rows)
            self.local_vocab_size = max(min(end, config.vocab_size) - begin, 0)
        _name_globally(self)
        if not empty:
            _clear_padding(self)

    @property
    def prefix_length(self) -> int:
        """Tokens of a learned prefix before every text."""
        return self.attention_masks.prefix_length

    def linears(self) -> dict[str, Linear]:
        """The linear layers on this rank by their global names (``layers.3.attention.query``), layer by layer."""
        return {
            in_layer(number, module): attrgetter(module)(layer)
            for number, layer in zip(self.stage.layers, self.layers)
            for module in self.config.linear_shapes()
        }

    def embed(self, token_embeddings: Tensor, position_ids: Tensor, seed: Tensor) -> Tensor:
        """Hidden states that enter the first layer, from the token embeddings; both ``[B*S, H]``."""
        hidden_states = token_embeddings
        if self.embedding_multiplier != 1.0:
            hidden_states = hidden_states * self.embedding_multiplier
        if self.position_embedding is not None:
            hidden_states = hidden_states + self.position_embedding(position_ids)
        if self.embedding_dropout is not None:
            hidden_states = self.embedding_dropout(hidden_states, seed)
        if self.scatter_sequence is not None:
            hidden_states = self.scatter_sequence(hidden_states)
        return hidden_states

    def freeze(self) -> None:
        """Freeze all current parameters; parameters added later are trainable."""
        for parameter in self.get_parameters():
            parameter.requires_grad = False

    def shared_inputs(self, position_ids: Tensor, document_ids: Tensor) -> tuple[Tensor, tuple, Tensor]:
        """What all layers share, made once a step; arguments as of `construct`.

        Returns:
            Position ids of this rank's tokens, past the learned prefix, if there is one; cos/sin (`RotaryAngles`), an
            empty tuple with learned position embeddings; the mask (`AttentionMasks`).
        """
        position_ids = self.attention_masks.past_prefix(position_ids)
        longest = position_ids.max() + 1
        if self.own_positions is not None:
            position_ids = self.own_positions(position_ids)
        cos_sin = () if self.rotary is None else self.rotary(position_ids, longest)
        return position_ids, cos_sin, self.attention_masks(document_ids)

    def run_layers(self, hidden_states: Tensor, position_ids: Tensor, document_ids: Tensor, seed: Tensor) -> Tensor:
        """Run the layers of this pipeline stage.

        Args:
            hidden_states: token embeddings ``[B*S, H]`` on the first stage, else the output of the previous stage.
            position_ids, document_ids, seed: see `construct`.

        Returns:
            Hidden states for the next stage; on the last stage the output of the final norm ``[B*S, H]``.
        """
        position_ids, cos_sin, mask = self.shared_inputs(position_ids, document_ids)
        batch, length = position_ids.shape
        if self.stage.is_first:
            hidden_states = self.embed(hidden_states, position_ids, seed)
        for layer in self.layers:
            hidden_states = layer(hidden_states, cos_sin, mask, seed, batch, length)
        return self.final_norm_output(hidden_states) if self.stage.is_last else hidden_states

    def final_norm_output(self, hidden_states: Tensor) -> Tensor:
        """Apply the final norm to the last layer's output, giving the input of the head; what divides the logits
        divides it, so that everything that multiplies by the head gets scaled logits.
        """
        hidden_states = self.final_norm(hidden_states)
        if self.logits_multiplier != 1.0:
            hidden_states = hidden_states * self.logits_multiplier
        return hidden_states if self.gather_sequence is None else self.gather_sequence(hidden_states)

    def embed_tokens(self, inputs: Tensor) -> Tensor:
        """Input of `run_layers`: embeddings of int32 ids on the first stage, the hidden states themselves on others."""
        return self.token_embedding(inputs) if self.stage.is_first else inputs

    def construct(self, inputs: Tensor, position_ids: Tensor, document_ids: Tensor, seed: Tensor) -> Tensor:
        """Hidden states after the final norm; before the last stage, the hidden states for the next stage.

        Args:
            inputs: int32 ids ``[B, S]``; after the first stage, the hidden states of the previous one.
            position_ids: int32 ``[B, S]``, restarting at 0 in every document.
            document_ids: int32 ``[B, S]``; tokens attend to earlier tokens of the same document only. The tokens of a
                document lie side by side.
            seed: int32 scalar, the dropout seed of this step.

        Returns:
            ``[B*S, H]`` in the compute dtype.
        """
        return self.run_layers(self.embed_tokens(inputs), position_ids, document_ids, seed)

    def head_parameter(self) -> Parameter:
        """The head's matrix, or the tied embedding table, including padding rows."""
        return self.token_embedding.weight if self.head is None else self.head.weight

    def head_weight(self) -> Tensor:
        """The head's weight ``[V, H]`` in the compute dtype without padding rows; this rank's shard with a parallel
        vocabulary.
        """
        weight = self.head_parameter()
        if self.local_vocab_size < weight.shape[0]:
            weight = self.cut_rows(weight, 0, self.local_vocab_size)
        return ops.cast(weight, self.compute_dtype)

    def logits_weight(self) -> Tensor:
        """The weight that `logits` multiplies by."""
        if self.gather_logits is not None:
            return ops.cast(self.head_parameter(), self.compute_dtype)  # padding keeps the shards the same size
        return self.head_weight()

    def logits(self, hidden_states: Tensor, weight: Tensor | None = None) -> Tensor:
        """Logits ``[Q, H] -> [Q, V]`` in float32; pass ``weight`` if `logits_weight` has been computed
        already.
        """
        if weight is None:
            weight = self.logits_weight()
        logits = ops.cast(self.head_product(hidden_states, weight), ms.float32)
        if self.gather_logits is not None:
            return self.cut_columns(self.gather_logits(logits), 0, self.vocab_size)
        return logits


class Head(nn.Cell):
    """Matrix of a head that is not tied to the token embedding; `Decoder.logits` multiplies by it."""

    def __init__(
        self, config: TransformerConfig, initializer: Initializer, param_dtype: ms.dtype.Number, axis: int | None = None
    ) -> None:
        super().__init__()
        values = initializer.normal((config.token_rows, config.hidden_size), param_dtype, axis=axis)
        self.weight = Parameter(values, name="weight")


def _name_globally(decoder: Decoder) -> None:
    """Number the layers of a pipeline stage as in the whole network."""
    first = decoder.stage.layers.start
    for index in range(len(decoder.layers) if first else 0):
        for parameter in decoder.layers[index].get_parameters():
            parameter.name = parameter.name.replace(f"layers.{index}.", f"layers.{first + index}.", 1)


def _clear_padding(decoder: Decoder) -> None:
    """Zero the embedding rows beyond the vocabulary."""
    for parameter in decoder.get_parameters():
        if parameter.name in TOKEN_TABLES and parameter.shape[0] > decoder.local_vocab_size:
            values = parameter.asnumpy().copy()
            values[decoder.local_vocab_size :] = 0
            parameter.set_data(Tensor(values, parameter.dtype))
