"""The configuration of a decoder network, common to all families."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from mindcoder.families.config_bounds import check_bounds
from mindcoder.families.parameter_names import in_layer
from mindcoder.families.rope_scaling import RopeScaling

HEAD_NORMS = ("attention.query_norm", "attention.key_norm")  # modules of a layer with qk_norm
TOKEN_TABLES = ("token_embedding.weight", "head.weight")  # parameters with one row per token
SIZE_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_layers",
    "num_heads",
    "num_kv_heads",
    "intermediate_size",
    "max_position_embeddings",
)
# Fields that determine the meaning of a weight file. Dropout, dtypes and token ids may differ between two runs of it.
ARCHITECTURE_FIELDS = (
    "model_type",
    *SIZE_FIELDS,
    "head_dim",
    "norm",
    "norm_epsilon",
    "activation",
    "gated_mlp",
    "qkv_bias",
    "output_bias",
    "mlp_bias",
    "position",
    "rope_theta",
    "rope_scaling",
    "sliding_window",
    "tied_head",
    "scale_attention",
    "qk_norm",
    "norm_offset",
    "no_rope_layers",
    "rotary_dim",
    "attention_multiplier",
    "embedding_multiplier",
    "residual_multiplier",
    "logits_scaling",
)


@dataclass(frozen=True)
class TransformerConfig:
    """Architecture of a decoder-only transformer, independent of family, device and layout.

    Sizes are element counts. ``*_dtype`` fields hold dtype names (``"float32"``, ``"float16"``,
    ``"bfloat16"``); `mindcoder.backend.device.resolve_dtype` maps them to what the device computes in.

    Attributes:
        head_dim: size D of one attention head; 0 means ``hidden_size // num_heads``.
        max_position_embeddings: rows of the learned position table, or the context a rotary model was trained with.
        activation: of the MLP. ``gelu`` is the exact form, with erf; ``quick_gelu`` is
            ``x * sigmoid(1.702 x)``, MindSpore's FastGeLU.
        qkv_bias, output_bias, mlp_bias: whether the query, key and value projections, the output projection of the
            attention, and the linear layers of the MLP have biases.
        initializer_range: initial standard deviation of the layers' matrices and of an untied head.
        embedding_deviation: initial standard deviation of the embedding tables; 0 means ``initializer_range``.
        embedding_dtype: of the token embedding; empty means ``param_dtype``.
        sliding_window: number of tokens a token attends to, itself included; None for all before it.
        qk_norm: whether every head of queries and keys goes through an RMS norm of its own size before rotation.
        norm_offset: added to the weights of all norms (Gemma's are stored around 0).
        no_rope_layers: indices of layers without rotary positions, in ascending order.
        rotary_dim: features of a head that rotate; 0 means all. The others are the last of both halves, see
            `mindcoder.families.rotary_order`.
        attention_multiplier: scale of the query before the dot product; 0 means ``1/sqrt(D)`` or, without
            ``scale_attention``, 1.
        embedding_multiplier: scale of the embeddings that enter the first layer.
        residual_multiplier: scale of what attention and MLP add to the residual stream.
        logits_scaling: divides the logits.
        padded_vocab_size: rows of the embedding and head when padded to a multiple; 0 means ``vocab_size``.
            Padding rows are zero, receive no gradient, are never sampled and are cut off on export.

    Raises:
        ValueError: when sizes contradict each other; the message names the fields.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    intermediate_size: int
    max_position_embeddings: int
    head_dim: int = 0
    norm: Literal["layer_norm", "rms_norm"] = "layer_norm"
    norm_epsilon: float = 1e-5
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "silu"] = "gelu_tanh"
    gated_mlp: bool = False
    qkv_bias: bool = True
    output_bias: bool = True
    mlp_bias: bool = True
    position: Literal["learned", "rope"] = "learned"
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    sliding_window: int | None = None
    tied_head: bool = True
    scale_attention: bool = True
    qk_norm: bool = False
    norm_offset: float = 0.0
    no_rope_layers: tuple[int, ...] = ()
    rotary_dim: int = 0
    attention_multiplier: float = 0.0
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_scaling: float = 1.0
    padded_vocab_size: int = 0
    initializer_range: float = 0.02
    embedding_deviation: float = 0.0
    embedding_dropout: float = 0.0
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    param_dtype: str = "float32"
    embedding_dtype: str = ""
    compute_dtype: str = "float32"
    norm_dtype: str = "float32"
    softmax_dtype: str = "float32"
    bos_token_id: int | None = 0
    eos_token_id: int | None = 0
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.head_dim == 0:
            if self.hidden_size % self.num_heads:
                raise ValueError(f"hidden_size {self.hidden_size} is not divisible by num_heads {self.num_heads}")
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_heads)
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} is not divisible by num_kv_heads {self.num_kv_heads}")
        if self.position == "rope" and self.head_dim % 2:
            raise ValueError(f"rotary positions need an even head_dim, found {self.head_dim}")
        if self.rotary_dim > self.head_dim or self.rotary_dim % 2:
            raise ValueError(f"rotary_dim must be even and at most head_dim {self.head_dim}, found {self.rotary_dim}")
        scaling = self.rope_scaling
        if scaling is not None and scaling.kind == "longrope":
            for name, values in (("short_factors", scaling.short_factors), ("long_factors", scaling.long_factors)):
                if len(values) != self.rotating_dim // 2:
                    raise ValueError(f"{name}: expected {self.rotating_dim // 2} numbers, found {len(values)}")
            if scaling.original_length < 2:
                raise ValueError(f"longrope's original_length must be at least 2, found {scaling.original_length}")
        if scaling is not None and scaling.kind == "yarn" and self.rope_theta <= 1:
            raise ValueError(f"rope_scaling yarn needs rope_theta above 1, found {self.rope_theta:g}")
        if self.rotary_dim and scaling is not None and scaling.kind == "dynamic":
            raise ValueError("rope_scaling dynamic is not implemented for heads that rotate in part (rotary_dim)")
        object.__setattr__(self, "no_rope_layers", tuple(self.no_rope_layers))  # a list, from JSON
        if list(self.no_rope_layers) != sorted(set(self.no_rope_layers) & set(range(self.num_layers))):
            raise ValueError(
                f"no_rope_layers must be layers from 0 to {self.num_layers - 1} in ascending order, found "
                f"{list(self.no_rope_layers)}"
            )
        if self.padded_vocab_size and self.padded_vocab_size < self.vocab_size:
            raise ValueError(f"padded_vocab_size {self.padded_vocab_size} is below vocab_size {self.vocab_size}")

    @property
    def query_size(self) -> int:
        """Size N*D of all query heads."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Size K*D of all key (or value) heads."""
        return self.num_kv_heads * self.head_dim

    @property
    def token_rows(self) -> int:
        """Rows of the token embedding, padding included."""
        return self.padded_vocab_size or self.vocab_size

    @property
    def query_scale(self) -> float:
        """Scale of the query before the dot product (HF ``scale_attn_weights``, ``attention_multiplier``)."""
        if self.attention_multiplier:
            return self.attention_multiplier
        return self.head_dim**-0.5 if self.scale_attention else 1.0

    @property
    def rotating_dim(self) -> int:
        """Features of a head that rotate."""
        return self.rotary_dim or self.head_dim

    def rotates(self, layer: int) -> bool:
        """Whether a layer's queries and keys are rotated."""
        return self.position == "rope" and layer not in self.no_rope_layers

    @property
    def longest_text(self) -> int | None:
        """Maximum sequence length of the learned position table; None with rotary positions."""
        return self.max_position_embeddings if self.position == "learned" else None

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """Weight shape of every linear layer of a decoder layer, by name."""
        hidden, inner = self.hidden_size, self.intermediate_size
        shapes = {
            "attention.query": (self.query_size, hidden),
            "attention.key": (self.kv_size, hidden),
            "attention.value": (self.kv_size, hidden),
            "attention.output": (hidden, self.query_size),
            "mlp.up": (inner, hidden),
            "mlp.down": (hidden, inner),
        }
        if self.gated_mlp:
            shapes["mlp.gate"] = (inner, hidden)
        return shapes

    def has_bias(self, name: str) -> bool:
        """Whether a linear layer, by its name in `linear_shapes`, has a bias."""
        if name == "attention.output":
            return self.output_bias
        return self.qkv_bias if name.startswith("attention.") else self.mlp_bias

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Global shape of every parameter of the network, by global name."""
        hidden = self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"token_embedding.weight": (self.token_rows, hidden)}
        if self.position == "learned":
            shapes["position_embedding.weight"] = (self.max_position_embeddings, hidden)
        norm_parts = ("weight", "bias") if self.norm == "layer_norm" else ("weight",)
        linears = self.linear_shapes()
        for layer in range(self.num_layers):
            for norm in ("attention_norm", "mlp_norm"):
                shapes.update({in_layer(layer, f"{norm}.{part}"): (hidden,) for part in norm_parts})
            if self.qk_norm:
                shapes.update({in_layer(layer, f"{norm}.weight"): (self.head_dim,) for norm in HEAD_NORMS})
            for name, shape in linears.items():
                shapes[in_layer(layer, f"{name}.weight")] = shape
                if self.has_bias(name):
                    shapes[in_layer(layer, f"{name}.bias")] = shape[:1]
        shapes.update({f"final_norm.{part}": (hidden,) for part in norm_parts})
        if not self.tied_head:
            shapes["head.weight"] = (self.token_rows, hidden)
        return shapes

    def num_parameters(self) -> int:
        """Exact number of parameters; a tied head is counted once."""
        return sum(math.prod(shape) for shape in self.parameter_shapes().values())

    def flops_per_token(self, seq_length: int) -> float:
        """Floating point operations per token, forward and backward (PaLM appendix B).

        Matrix products only: 6 per weight that multiplies an activation, and 12·L·S·N·D for the attention
        scores (no discount for the causal half).
        """
        per_layer = sum(math.prod(shape) for shape in self.linear_shapes().values())
        weights = self.num_layers * per_layer + self.vocab_size * self.hidden_size
        return 6.0 * weights + 12.0 * self.num_layers * seq_length * self.query_size

    def without_dropout(self) -> TransformerConfig:
        """Copy without dropout, for evaluation and generation."""
        return replace(self, embedding_dropout=0.0, attention_dropout=0.0, hidden_dropout=0.0)

    def architecture(self) -> dict[str, Any]:
        """Fields that determine the meaning of a weight file, as plain data; a checkpoint must match them."""
        values = {name: getattr(self, name) for name in ARCHITECTURE_FIELDS}
        values["no_rope_layers"] = list(self.no_rope_layers)  # as JSON gives it back
        if self.rope_scaling is not None:
            values["rope_scaling"] = self.rope_scaling.as_data()
        return values


def with_todays_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """A stored configuration or architecture under today's names: ``attention_bias`` was one field for both biases."""
    fields = dict(values)
    if "attention_bias" in fields:
        biased = fields.pop("attention_bias")
        fields = {"qkv_bias": biased, "output_bias": biased, **fields}
    return fields


def config_from_dict(values: Mapping[str, Any]) -> TransformerConfig:
    """The inverse of ``dataclasses.asdict``; fields of older versions are understood.

    Raises:
        ValueError: a field is missing, unknown or contradicts another.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"expected an object, found {values!r:.60}")
    settings = with_todays_fields(values)
    known = {field.name for field in fields(TransformerConfig)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ValueError(f"unknown fields: {', '.join(unknown)}")
    try:
        if settings.get("rope_scaling") is not None:
            settings["rope_scaling"] = RopeScaling(**settings["rope_scaling"])
        return TransformerConfig(**settings)
    except TypeError as error:
        raise ValueError(str(error)) from None
