"""``model.model_config`` of Mistral, and the network it describes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mindcoder.families.section_fields import gated
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.sections.gated_section import GatedSection, WindowSection
from mindcoder.sections.section import Count, Layers, Size, TokenId


class MistralSection(GatedSection, WindowSection):
    """``model.model_config`` of Mistral; the defaults are Mistral-7B's."""

    type: Literal["MistralConfig"] = Field(description="family")
    vocab_size: Size = Field(32000, description="tokens in the vocabulary, padding token included")
    hidden_size: Size = Field(4096, description="features per token (H)")
    num_layers: Layers = Field(32, description="decoder layers (L)")
    num_heads: Count = Field(32, description="query heads (N)")
    n_kv_heads: Count | None = Field(8, description="key/value heads (K)")
    intermediate_size: Size | None = Field(
        14336, description="intermediate size of the MLP (F); default: by the family's rule"
    )
    bos_token_id: TokenId | None = Field(1, description="token that begins a text")
    eos_token_id: TokenId | list[TokenId] | None = Field(2, description="token that ends a text, or several")


def network(section: MistralSection) -> TransformerConfig:
    """The network of a section."""
    return TransformerConfig(model_type="mistral", sliding_window=section.sliding_window, **gated(section))
