"""``model.model_config`` of Llama, and the network it describes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from mindcoder.families.section_fields import common, rotary
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.sections import mindformers
from mindcoder.sections.decoder_section import first_given
from mindcoder.sections.rotary_section import RotarySection
from mindcoder.sections.section import Count, Describes, Layers, Size, TokenId


class LlamaSection(RotarySection, mindformers.LlamaSection):
    """``model.model_config`` of Llama, Code Llama and WizardCoder-Python; the defaults are Llama-7B's."""

    type: Literal["LlamaConfig", "CodeLlamaConfig"] = Field(description="family; both are the same network")
    vocab_size: Size = Field(32000, description="tokens in the vocabulary, padding token included")
    hidden_size: Size = Field(4096, description="features per token (H)")
    num_layers: Layers = Field(32, description="decoder layers (L)")
    num_heads: Count = Field(32, description="query heads (N)")
    multiple_of: Count = Field(
        256, description="rounds the computed intermediate size up; overridden by intermediate_size"
    )
    ffn_dim_multiplier: float | None = Field(
        None, gt=0, le=1024, description="factor of the computed intermediate size; overridden by intermediate_size"
    )
    hidden_act: Annotated[Literal["silu", "swish"], Describes("two names of one function")] = "silu"
    rms_norm_eps: float = Field(1e-5, gt=0, le=1, description="added to the mean square in RMS norms")
    qkv_has_bias: bool = Field(False, description="biases in the query, key and value projections")
    attn_proj_has_bias: bool = Field(
        False, description="bias in the attention's output projection; equal to qkv_has_bias"
    )
    mlp_has_bias: bool = Field(False, description="biases in the MLP")
    tie_word_embeddings: bool = Field(False, description="the head uses the token embedding's weights")
    bos_token_id: TokenId | None = Field(1, description="token that begins a text")
    eos_token_id: TokenId | list[TokenId] | None = Field(2, description="token that ends a text, or several")
    pad_token_id: TokenId | None = Field(0, description="token that fills batches up; none: the model has none")

    @property
    def pad_is_outside(self) -> bool:
        """Whether the padding token is one that MindFormers' tokenizer appends to the vocabulary (Llama 1's files)."""
        return self.given_pad_id == self.vocab_size

    @property
    def init_std(self) -> float:
        """Initial standard deviation of the weight matrices and embeddings; MindFormers' default of init_method_std
        is 0.01.
        """
        return first_given(self.init_method_std, self.initializer_range, default=0.01)

    @property
    def ffn_hidden_size(self) -> int:
        """Two thirds of 4 H, times ``ffn_dim_multiplier``, rounded up to ``multiple_of`` (Llama's reference code)."""
        if self.intermediate_size:
            return self.intermediate_size
        size = 4 * self.hidden_size
        if self.ffn_dim_multiplier is not None:
            size = int((self.ffn_dim_multiplier + 0.01) * size)
        size = int(2 * size / 3)
        return -(-size // self.multiple_of) * self.multiple_of

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Besides those of rotary families: config.json of Llama has one field for both keys of biases."""
        yield from super().contradictions()
        if self.qkv_has_bias != self.attn_proj_has_bias:
            yield (
                "attn_proj_has_bias",
                f"{self.attn_proj_has_bias} differs from qkv_has_bias {self.qkv_has_bias}; "
                "only models with both or neither are supported",
            )


def network(section: LlamaSection) -> TransformerConfig:
    """The network of a section."""
    return TransformerConfig(
        model_type="llama",
        intermediate_size=section.ffn_hidden_size,
        norm="rms_norm",
        norm_epsilon=section.rms_norm_eps,
        activation="silu",
        gated_mlp=True,
        qkv_bias=section.qkv_has_bias,
        output_bias=section.attn_proj_has_bias,
        mlp_bias=section.mlp_has_bias,
        tied_head=section.tie_word_embeddings,
        **common(section),
        **rotary(section),
    )
