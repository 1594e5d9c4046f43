"""``model.model_config`` of Phi-3 and Phi-4, and the network it describes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from mindcoder.families.phi3.huggingface import rotating
from mindcoder.families.phi3.longrope import longrope
from mindcoder.families.section_fields import gated
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.sections.gated_section import GatedSection, WindowSection
from mindcoder.sections.section import Count, Layers, Size, TokenId


class Phi3Section(GatedSection, WindowSection):
    """``model.model_config`` of Phi-3 and Phi-4; the defaults are Phi-3-mini's."""

    type: Literal["Phi3Config"] = Field(description="family")
    vocab_size: Size = Field(32064, description="tokens in the vocabulary, padding token included")
    hidden_size: Size = Field(3072, description="features per token (H)")
    num_layers: Layers = Field(32, description="decoder layers (L)")
    num_heads: Count = Field(32, description="query heads (N)")
    intermediate_size: Size | None = Field(
        8192, description="intermediate size of the MLP (F); default: by the family's rule"
    )
    bos_token_id: TokenId | None = Field(1, description="token that begins a text")
    eos_token_id: TokenId | list[TokenId] | None = Field(32000, description="token that ends a text, or several")
    partial_rotary_factor: float = Field(1.0, gt=0, le=1, description="part of a head that rotates")
    short_factor: list[float] | None = Field(
        None, description="longrope: what each rotary frequency is divided by, up to the original context"
    )
    long_factor: list[float] | None = Field(
        None, description="longrope: what each rotary frequency is divided by, in longer texts"
    )
    original_max_position_embeddings: Size = Field(4096, description="longrope: the original context, in tokens")

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Besides those of rotary families: longrope has two lists of factors and excludes other scaling."""
        yield from super().contradictions()
        if (self.short_factor is None) != (self.long_factor is None):
            yield "short_factor", "longrope needs short_factor and long_factor, found one of them"
        if self.short_factor is not None and self.extend_method != "None":
            yield "short_factor", f"longrope and extend_method {self.extend_method}: expected one of them"


def network(section: Phi3Section) -> TransformerConfig:
    """The network of a section."""
    fields = gated(section)
    if section.short_factor is not None and section.long_factor is not None:
        fields["rope_scaling"] = longrope(
            section.short_factor,
            section.long_factor,
            section.original_max_position_embeddings,
            section.context_length,
        )
    head_dim = section.head_dim or section.hidden_size // section.num_heads
    return TransformerConfig(
        model_type="phi3",
        rotary_dim=rotating(head_dim, section.partial_rotary_factor),
        sliding_window=section.sliding_window,
        **fields,
    )
