"""``model.model_config`` of Gemma and CodeGemma, and the network it describes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mindcoder.families.gemma.huggingface import FIXED, embedding_scale
from mindcoder.families.section_fields import gated
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.sections.gated_section import GatedSection
from mindcoder.sections.section import Count, Describes, Layers, Size, TokenId

TanhName = Annotated[Literal["gelu_pytorch_tanh", "gelu_tanh", "gelu"], Describes("two names of one function")]


class GemmaSection(GatedSection):
    """``model.model_config`` of Gemma and CodeGemma; the defaults are Gemma-7B's."""

    type: Literal["GemmaConfig"] = Field(description="family")
    vocab_size: Size = Field(256000, description="tokens in the vocabulary, padding token included")
    hidden_size: Size = Field(3072, description="features per token (H)")
    num_layers: Layers = Field(28, description="decoder layers (L)")
    num_heads: Count = Field(16, description="query heads (N)")
    head_dim: Count | None = Field(256, description="features per head (D); default: hidden_size / num_heads")
    intermediate_size: Size | None = Field(
        24576, description="intermediate size of the MLP (F); default: by the family's rule"
    )
    bos_token_id: TokenId | None = Field(2, description="token that begins a text")
    eos_token_id: TokenId | list[TokenId] | None = Field(1, description="token that ends a text, or several")
    hidden_act: TanhName = "gelu_pytorch_tanh"  # type: ignore[assignment]
    tie_word_embeddings: bool = Field(True, description="the head uses the token embedding's weights")


def network(section: GemmaSection) -> TransformerConfig:
    """The network of a section."""
    scale = embedding_scale(section.hidden_size)
    return TransformerConfig(**{**gated(section), **FIXED, **scale, "model_type": "gemma"})
