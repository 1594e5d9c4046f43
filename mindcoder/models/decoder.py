"""The decoder network that `TransformerConfig` drives."""

from __future__ import annotations

from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.device import resolve_dtype
from mindcoder.backend.dropout import CounterDropout
from mindcoder.backend.kernels import device_kernels
from mindcoder.models.attention import SelfAttention
from mindcoder.models.embedding import Embedding
from mindcoder.models.initializer import Initializer
from mindcoder.models.mlp import MLP
from mindcoder.models.norm import Norm
from mindcoder.models.rotary import RotaryAngles
from mindcoder.models.slices import WHOLE, WholeLayers
from mindcoder.models.stage import Stage
from mindcoder.models.transformer_config import TOKEN_TABLES, TransformerConfig

SITES_PER_LAYER = 3  # attention probabilities, attention output, MLP output
SITES_OF_A_SLICE = 1 << 16
SLICE_SEED = 0x3C6EF35F  # between the dropout seeds of slices that have rows of their own
TOKEN_PART, POSITION_PART, HEAD_PART, FIRST_LAYER_PART = range(4)  # of the initializer


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
            site + slices.index * SITES_OF_A_SLICE,  # heads of different slices drop different probabilities
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
        self.attention_share, self.mlp_share = device_kernels().Fork(2), device_kernels().Fork(2)
        self.seed_offset = slices.index * SLICE_SEED & 0x7FFFFFFF if slices.sequence else 0

    def construct(self, rows: Tensor, rotation: tuple, mask: Tensor, seed: Tensor, batch: int, length: int) -> Tensor:
        rows, entering = self.attention_share(rows)
        attended = self.attention(self.attention_norm(entering), rotation, mask, seed, batch, length)
        if self.attention_dropout is not None:
            attended = self.attention_dropout(attended, seed + self.seed_offset)
        rows, entering = self.mlp_share(rows + attended)
        expanded = self.mlp(self.mlp_norm(entering), seed)
        if self.mlp_dropout is not None:
            expanded = self.mlp_dropout(expanded, seed + self.seed_offset)
        return rows + expanded

    def finish_cached(self, rows: Tensor, attended: Tensor) -> Tensor:
        """The layer once its attention to a cache is there; no dropout."""
        rows = rows + attended
        return rows + self.mlp(self.mlp_norm(rows))


class Decoder(nn.Cell):
    """Embeddings, layers, the final norm, and the head: the token embedding or a matrix of its own.

    Args:
        config: the architecture.
        seed: of the start values.
        empty: leave weights at zero because they are loaded right after.
        slices: this process's part of every layer.
        stage: the layers that this process has; all by default.

    Parameter names are global names, those of ``config.parameter_shapes()``: the same in every layout and in
    checkpoints.
    """

    def __init__(
        self,
        config: TransformerConfig,
        seed: int = 0,
        empty: bool = False,
        slices: WholeLayers = WHOLE,
        stage: Stage | None = None,
    ) -> None:
        super().__init__()
        self.config, self.slices = config, slices
        self.adapter_shapes: dict[str, tuple[int, ...]] = {}  # global shapes of what `mindcoder.peft` adds
        self.prefix_length = 0  # positions before every text that a learnt prefix has
        self.stage = stage = stage or Stage(range(config.num_layers))
        local = self.local_config = slices.local(config)
        initializer = Initializer(seed, config.initializer_range, empty, slices)
        param_dtype = resolve_dtype(config.param_dtype)
        compute_dtype = resolve_dtype(config.compute_dtype)
        table_axis, stddev = slices.axis(TOKEN_TABLES[0], config), config.embedding_deviation or None
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
                slices,
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
            [DecoderLayer(config, layer, initializer.at(FIRST_LAYER_PART + layer), slices) for layer in stage.layers]
        )
        self.final_norm: Any = Norm(config, initializer) if stage.is_last else None
        has_head = stage.is_last and not config.tied_head
        self.head = Head(config, initializer.at(HEAD_PART), param_dtype, table_axis) if has_head else None
        self.embedding_dropout = CounterDropout(config.embedding_dropout, 0) if config.embedding_dropout > 0 else None
        self.attention_masks = device_kernels().AttentionMasks(
            *(local.num_heads, local.num_kv_heads, config.head_dim, config.sliding_window),
            *(resolve_dtype(config.softmax_dtype), compute_dtype),
        )
        self.spread_rows, self.before_head = slices.spread_rows(), slices.before_head()
        self.join_logits = slices.join_logits()
        self.head_product = ops.MatMul(transpose_b=True)
        self.cut_rows, self.cut_columns = device_kernels().Cut(0), device_kernels().Cut(1)
        self.compute_dtype = compute_dtype
        self.vocab_size = config.vocab_size
        self.own_tokens = config.vocab_size
        if table_axis is not None:
            begin, end = slices.part(config.token_rows)
            self.own_tokens = max(min(end, config.vocab_size) - begin, 0)
        _name_globally(self)
        _clear_padding(self)

    def begin(self, token_rows: Tensor, position_ids: Tensor, seed: Tensor) -> Tensor:
        """What enters the first layer, from looked-up token embeddings; ``[B*S, H]`` both."""
        rows = token_rows
        if self.position_embedding is not None:
            rows = rows + self.position_embedding(position_ids)
        if self.embedding_dropout is not None:
            rows = self.embedding_dropout(rows, seed)
        if self.spread_rows is not None:
            rows = self.spread_rows(rows)
        return rows

    def freeze(self) -> None:
        """Let nothing that is here be trained; what is added later is."""
        for parameter in self.get_parameters():
            parameter.requires_grad = False

    def set_prefix_length(self, tokens: int) -> None:
        """Let texts begin behind a prefix of ``tokens`` positions, which all of theirs see."""
        self.prefix_length = self.attention_masks.prefix_length = tokens

    def behind_prefix(self, position_ids: Tensor) -> Tensor:
        """Positions as the network counts them: the prefix has the first ones."""
        return position_ids if self.prefix_length == 0 else position_ids + self.prefix_length

    def rotation(self, position_ids: Tensor, longest: Tensor) -> tuple:
        """Rotary angles for all layers, see `RotaryAngles`; an empty tuple where positions are learned."""
        if self.rotary is None:
            return ()
        return self.rotary(position_ids, longest)

    def run_layers(self, rows: Tensor, position_ids: Tensor, document_ids: Tensor, seed: Tensor) -> Tensor:
        """This stage's layers, from what enters it to what leaves it.

        Args:
            rows: looked-up token embeddings ``[B*S, H]`` on the first stage, else what the one before gave.
            position_ids, document_ids, seed: see `construct`.

        Returns:
            Rows for the next stage; on the last one the final norm's output ``[B*S, H]``.
        """
        batch, length = position_ids.shape
        position_ids = self.behind_prefix(position_ids)
        if self.stage.is_first:
            rows = self.begin(rows, position_ids, seed)
        rotation = self.rotation(position_ids, position_ids.max() + 1)
        mask = self.attention_masks(document_ids)
        for layer in self.layers:
            rows = layer(rows, rotation, mask, seed, batch, length)
        return self.finish(rows) if self.stage.is_last else rows

    def finish(self, rows: Tensor) -> Tensor:
        """The final norm on the last layer's output: what the head multiplies."""
        rows = self.final_norm(rows)
        return rows if self.before_head is None else self.before_head(rows)

    def look_up(self, inputs: Tensor) -> Tensor:
        """What `run_layers` takes: embeddings of int32 ids on the first stage, the rows themselves on others."""
        return self.token_embedding(inputs) if self.stage.is_first else inputs

    def construct(self, inputs: Tensor, position_ids: Tensor, document_ids: Tensor, seed: Tensor) -> Tensor:
        """Hidden states after the final norm; on a stage that is not the last one, the rows for the next.

        Args:
            inputs: int32 ids ``[B, S]``; on a stage that is not the first one, the rows of the one before.
            position_ids: int32 ``[B, S]``, restarting at 0 in every document.
            document_ids: int32 ``[B, S]``; tokens see earlier tokens of the same document only.
            seed: int32 scalar of this step's dropout.

        Returns:
            ``[B*S, H]`` in the compute dtype.
        """
        return self.run_layers(self.look_up(inputs), position_ids, document_ids, seed)

    def head_parameter(self) -> Parameter:
        """The head's matrix or the table that stands for it, with padding rows."""
        return self.token_embedding.weight if self.head is None else self.head.weight

    def head_weight(self) -> Tensor:
        """The head's ``[V, H]`` in the compute dtype, without padding rows; this slice's of a divided vocabulary."""
        weight = self.head_parameter()
        if self.own_tokens < weight.shape[0]:
            weight = self.cut_rows(weight, 0, self.own_tokens)
        return ops.cast(weight, self.compute_dtype)

    def logits_weight(self) -> Tensor:
        """What `logits` multiplies by."""
        if self.join_logits is not None:
            return ops.cast(self.head_parameter(), self.compute_dtype)  # padding keeps the slices of one size
        return self.head_weight()

    def logits(self, rows: Tensor, weight: Tensor | None = None) -> Tensor:
        """``[rows, H] -> [rows, V]`` in float32; ``weight`` is what `logits_weight` gave, where it is there already."""
        if weight is None:
            weight = self.logits_weight()
        logits = ops.cast(self.head_product(rows, weight), ms.float32)
        if self.join_logits is not None:
            return self.cut_columns(self.join_logits(logits), 0, self.vocab_size)
        return logits


class Head(nn.Cell):
    """The matrix of a head that is not tied to the token embedding; `Decoder.logits` multiplies by it."""

    def __init__(
        self, config: TransformerConfig, initializer: Initializer, param_dtype: ms.dtype.Number, axis: int | None = None
    ) -> None:
        super().__init__()
        values = initializer.normal((config.token_rows, config.hidden_size), param_dtype, axis=axis)
        self.weight = Parameter(values, name="weight")


def _name_globally(decoder: Decoder) -> None:
    """Number a stage's layers as the whole network does."""
    first = decoder.stage.layers.start
    for index in range(len(decoder.layers) if first else 0):
        for parameter in decoder.layers[index].get_parameters():
            parameter.name = parameter.name.replace(f"layers.{index}.", f"layers.{first + index}.", 1)


def _clear_padding(decoder: Decoder) -> None:
    """Zero the rows beyond the vocabulary, whatever they were drawn as."""
    for parameter in decoder.get_parameters():
        if parameter.name in TOKEN_TABLES and parameter.shape[0] > decoder.own_tokens:
            values = parameter.asnumpy().copy()
            values[decoder.own_tokens :] = 0
            parameter.set_data(Tensor(values, parameter.dtype))
