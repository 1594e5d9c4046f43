"""``model.model_config`` of SmolLM3, and the network it describes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mindcoder.families.section_fields import gated
from mindcoder.families.smollm3.no_rope import skipped_layers
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.sections.gated_section import GatedSection
from mindcoder.sections.section import Count, Layers, Size, TokenId


class SmolLM3Section(GatedSection):
    """``model.model_config`` of SmolLM3; the defaults are SmolLM3-3B's."""

    type: Literal["SmolLM3Config"] = Field(description="family")
    vocab_size: Size = Field(128256, description="tokens in the vocabulary, padding token included")
    hidden_size: Size = Field(2048, description="features per token (H)")
    num_layers: Layers = Field(36, description="decoder layers (L)")
    num_heads: Count = Field(16, description="query heads (N)")
    n_kv_heads: Count | None = Field(4, description="key/value heads (K)")
    intermediate_size: Size | None = Field(
        11008, description="intermediate size of the MLP (F); default: by the family's rule"
    )
    bos_token_id: TokenId | None = Field(128000, description="token that begins a text")
    eos_token_id: TokenId | list[TokenId] | None = Field(128012, description="token that ends a text, or several")
    no_rope_layers: list[int] | None = Field(
        None, description="a number for each layer, 0: without rotary positions; overrides no_rope_layer_interval"
    )
    no_rope_layer_interval: Count = Field(4, description="every so many layers, one has no rotary positions")


def network(section: SmolLM3Section) -> TransformerConfig:
    """The network of a section."""
    layers = skipped_layers(section.no_rope_layers, section.no_rope_layer_interval, section.num_layers)
    return TransformerConfig(model_type="smollm3", no_rope_layers=layers, **gated(section))
