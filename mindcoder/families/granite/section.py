"""``model.model_config`` of Granite 3, and the network it describes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mindcoder.families.section_fields import gated
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.sections.gated_section import GatedSection
from mindcoder.sections.section import Count, Layers, Size, TokenId


class GraniteSection(GatedSection):
    """``model.model_config`` of Granite 3; the multipliers are named as in transformers."""

    type: Literal["GraniteConfig"] = Field(description="family")
    vocab_size: Size = Field(49155, description="tokens in the vocabulary, padding token included")
    hidden_size: Size = Field(2048, description="features per token (H)")
    num_layers: Layers = Field(40, description="decoder layers (L)")
    num_heads: Count = Field(32, description="query heads (N)")
    n_kv_heads: Count | None = Field(8, description="key/value heads (K)")
    intermediate_size: Size | None = Field(
        8192, description="intermediate size of the MLP (F); default: by the family's rule"
    )
    bos_token_id: TokenId | None = Field(0, description="token that begins a text")
    eos_token_id: TokenId | list[TokenId] | None = Field(0, description="token that ends a text, or several")
    embedding_multiplier: float = Field(1.0, gt=0, le=1e6, description="scale of the embeddings")
    attention_multiplier: float = Field(
        1.0, gt=0, le=1000, description="scale of the attention scores, in place of 1 / sqrt(head_dim)"
    )
    residual_multiplier: float = Field(1.0, gt=0, le=1000, description="scale of what attention and MLP add")
    logits_scaling: float = Field(1.0, gt=0, le=1e6, description="divides the logits")


def network(section: GraniteSection) -> TransformerConfig:
    """The network of a section."""
    return TransformerConfig(
        model_type="granite",
        embedding_multiplier=section.embedding_multiplier,
        attention_multiplier=section.attention_multiplier,
        residual_multiplier=section.residual_multiplier,
        logits_scaling=section.logits_scaling,
        **gated(section),
    )
