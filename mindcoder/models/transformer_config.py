"""The one description of a decoder network that every family fills in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

SHAPE_FIELDS = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "num_layers",
    "num_heads",
    "num_kv_heads",
    "intermediate_size",
    "max_position_embeddings",
)


@dataclass(frozen=True)
class TransformerConfig:
    """Architecture of a decoder-only transformer, independent of family, device and layout.

    Sizes are element counts. ``*_dtype`` fields hold dtype names (``"float32"``, ``"float16"``,
    ``"bfloat16"``); `mindcoder.backend.device.resolve_dtype` maps them to what the device computes in.

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
    norm_epsilon: float = 1e-5
    activation: str = "gelu_tanh"
    initializer_range: float = 0.02
    scale_attention: bool = True
    embedding_dropout: float = 0.0
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    param_dtype: str = "float32"
    compute_dtype: str = "float32"
    norm_dtype: str = "float32"
    softmax_dtype: str = "float32"
    bos_token_id: int | None = 0
    eos_token_id: int | None = 0
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        for name in SHAPE_FIELDS[1:]:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not divisible by num_heads {self.num_heads}")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} is not divisible by num_kv_heads {self.num_kv_heads}")

    @property
    def head_dim(self) -> int:
        """Size D of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def query_scale(self) -> float:
        """Factor on the query before the dot product (HF ``scale_attn_weights``)."""
        return self.head_dim**-0.5 if self.scale_attention else 1.0

    def num_parameters(self) -> int:
        """Exact count of trainable numbers, tied head counted once."""
        hidden, inner = self.hidden_size, self.intermediate_size
        kv_size = self.num_kv_heads * self.head_dim
        attention = 2 * (hidden * hidden + hidden) + 2 * (kv_size * hidden + kv_size)
        mlp = 2 * hidden * inner + inner + hidden
        norms = 2 * 2 * hidden
        embeddings = (self.vocab_size + self.max_position_embeddings) * hidden
        return embeddings + self.num_layers * (attention + mlp + norms) + 2 * hidden

    def flops_per_token(self, seq_length: int) -> float:
        """Floating point operations of forward and backward for one token (PaLM appendix B).

        Matrix products only: 6 per weight that multiplies an activation, and 12·L·S·H for the attention
        scores (no discount for the causal half).
        """
        kv_size = self.num_kv_heads * self.head_dim
        per_layer = 2 * self.hidden_size**2 + 2 * self.hidden_size * kv_size
        per_layer += 2 * self.hidden_size * self.intermediate_size
        weights = self.num_layers * per_layer + self.vocab_size * self.hidden_size
        return 6.0 * weights + 12.0 * self.num_layers * seq_length * self.hidden_size

    def without_dropout(self) -> TransformerConfig:
        """Copy for evaluation and generation."""
        return replace(self, embedding_dropout=0.0, attention_dropout=0.0, hidden_dropout=0.0)

    def shape_fields(self) -> dict[str, Any]:
        """Fields that decide parameter shapes; a checkpoint must agree on them."""
        return {name: getattr(self, name) for name in SHAPE_FIELDS}
