"""``model.model_config`` of Qwen3, and the network it describes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mindcoder.families.section_fields import gated
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.sections.gated_section import GatedSection, WindowSection
from mindcoder.sections.section import Count, Layers, Size, TokenId


class Qwen3Section(GatedSection, WindowSection):
    """``model.model_config`` of Qwen3 under the names of MindFormers' LlamaConfig; sizes are those of transformers."""

    type: Literal["Qwen3Config"] = Field(description="family")
    vocab_size: Size = Field(151936, description="tokens in the vocabulary, padding token included")
    hidden_size: Size = Field(4096, description="features per token (H)")
    num_layers: Layers = Field(32, description="decoder layers (L)")
    num_heads: Count = Field(32, description="query heads (N)")
    head_dim: Count | None = Field(128, description="features per head (D); default: hidden_size / num_heads")
    intermediate_size: Size | None = Field(
        22016, description="intermediate size of the MLP (F); default: by the family's rule"
    )
    bos_token_id: TokenId | None = Field(151643, description="token that begins a text")
    eos_token_id: TokenId | list[TokenId] | None = Field(151645, description="token that ends a text, or several")


def network(section: Qwen3Section) -> TransformerConfig:
    """The network of a section."""
    return TransformerConfig(model_type="qwen3", qk_norm=True, sliding_window=section.sliding_window, **gated(section))
