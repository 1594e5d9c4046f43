"""``model.model_config`` of Qwen2, and the network it describes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mindcoder.families.section_fields import common, rotary
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.sections import mindformers
from mindcoder.sections.rotary_section import RotarySection
from mindcoder.sections.section import Count, Describes, Layers, Size, TokenId


class Qwen2Section(RotarySection, mindformers.LlamaSection):
    """``model.model_config`` of Qwen2 under the names of MindFormers' LlamaConfig; sizes are those of transformers."""

    type: Literal["Qwen2Config"] = Field(description="family")
    vocab_size: Size = Field(151936, description="tokens in the vocabulary, padding token included")
    hidden_size: Size = Field(4096, description="features per token (H)")
    num_layers: Layers = Field(32, description="decoder layers (L)")
    num_heads: Count = Field(32, description="query heads (N)")
    intermediate_size: Size | None = Field(
        22016, description="intermediate size of the MLP (F); default: by the family's rule"
    )
    hidden_act: Annotated[Literal["silu", "swish"], Describes("two names of one function")] = "silu"
    rms_norm_eps: float = Field(1e-6, gt=0, le=1, description="added to the mean square in RMS norms")
    sliding_window: Size | None = Field(
        None, description="tokens that a token attends to, itself included; default: all"
    )
    tie_word_embeddings: bool = Field(False, description="the head uses the token embedding's weights")
    bos_token_id: TokenId | None = Field(151643, description="token that begins a text")
    eos_token_id: TokenId | list[TokenId] | None = Field(151643, description="token that ends a text, or several")


def network(section: Qwen2Section) -> TransformerConfig:
    """The network of a section."""
    return TransformerConfig(
        model_type="qwen2",
        intermediate_size=section.ffn_hidden_size,
        norm="rms_norm",
        norm_epsilon=section.rms_norm_eps,
        activation="silu",
        gated_mlp=True,
        qkv_bias=True,
        output_bias=False,
        mlp_bias=False,
        sliding_window=section.sliding_window,
        tied_head=section.tie_word_embeddings,
        **common(section),
        **rotary(section),
    )
