"""``model.model_config`` of GPT-BigCode, and the network it describes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mindcoder.families.section_fields import common, residual_dropout
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.sections.decoder_section import DecoderSection, ResidualDropout
from mindcoder.sections.section import Count, Layers, Ours, Size, TokenId


class GptBigCodeSection(DecoderSection, ResidualDropout):
    """``model.model_config`` of StarCoder and WizardCoder (GPT-BigCode); the defaults are WizardCoder-15B's."""

    type: Literal["WizardCoderConfig", "StarCoderConfig"] = Field("WizardCoderConfig", description="family")
    hidden_size: Size = Field(6144, description="features per token (H)")
    num_layers: Layers = Field(40, description="decoder layers (L)")
    num_heads: Count = Field(48, description="query heads (N)")
    multi_query: bool = Field(True, description="one key/value head for all query heads; overridden by n_kv_heads")
    n_position: Size = Field(8192, description="rows of the learned position embedding, the longest sequence")
    expand_ratio: int = Field(
        4,
        ge=1,
        le=1024,
        description="intermediate size of the MLP divided by hidden_size; overridden by intermediate_size",
    )
    pad_token_id: TokenId | None = Field(49152, description="token that fills batches up; none: the model has none")
    embedding_initializer_range: Annotated[float, Ours()] = Field(
        0.01,
        gt=0,
        le=100,
        description="standard deviation of the initial token and position embeddings, MindFormers' by default",
    )

    @property
    def kv_heads(self) -> int:
        """Number of key/value heads."""
        return self.n_kv_heads or (1 if self.multi_query else self.num_heads)

    @property
    def ffn_hidden_size(self) -> int:
        """Intermediate size of the MLP."""
        return self.intermediate_size or self.expand_ratio * self.hidden_size

    @property
    def max_positions(self) -> int | None:
        """Rows of the learned position embedding."""
        return self.n_position

    @property
    def embedding_init_std(self) -> float:
        """Initial standard deviation of the token and position embeddings.

        MindFormers' WizardCoderEmbeddingLayer initializes both with ``initializer("normal")``, whose deviation is 0.01
        (research/wizardcoder/wizardcoder.py, branch r1.1.0); it does not read ``initializer_range``.
        """
        return self.embedding_initializer_range


def network(section: GptBigCodeSection) -> TransformerConfig:
    """The network of a section."""
    return TransformerConfig(
        model_type="gpt_bigcode",
        intermediate_size=section.ffn_hidden_size,
        max_position_embeddings=section.n_position,
        **common(section),
        **residual_dropout(section, section.dropout),
    )
