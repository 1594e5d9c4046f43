"""``model.model_config`` of StarCoder2, and the network it describes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mindcoder.families.section_fields import common, residual_dropout, rotary
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.sections.decoder_section import ResidualDropout
from mindcoder.sections.rotary_section import RotarySection
from mindcoder.sections.section import Count, Layers, Size


class StarCoder2Section(RotarySection, ResidualDropout):
    """``model.model_config`` of StarCoder2; the defaults are StarCoder2-3B's."""

    type: Literal["StarCoder2Config"] = Field(description="family")
    vocab_size: Size = Field(49152, description="tokens in the vocabulary, padding token included")
    hidden_size: Size = Field(3072, description="features per token (H)")
    num_layers: Layers = Field(30, description="decoder layers (L)")
    num_heads: Count = Field(24, description="query heads (N)")
    n_kv_heads: Count | None = Field(2, description="key/value heads (K)")
    intermediate_size: Size | None = Field(
        None, description="intermediate size of the MLP (F); default: by the family's rule"
    )
    sliding_window: Size | None = Field(
        None, description="tokens that a token attends to, itself included; default: all"
    )
    use_bias: bool = Field(True, description="biases in attention and MLP")
    tie_word_embeddings: bool = Field(True, description="the head uses the token embedding's weights")


def network(section: StarCoder2Section) -> TransformerConfig:
    """The network of a section."""
    return TransformerConfig(
        model_type="starcoder2",
        intermediate_size=section.ffn_hidden_size,
        qkv_bias=section.use_bias,
        output_bias=section.use_bias,
        mlp_bias=section.use_bias,
        sliding_window=section.sliding_window,
        tied_head=section.tie_word_embeddings,
        **common(section),
        **rotary(section),
        **residual_dropout(section, section.dropout),
    )
