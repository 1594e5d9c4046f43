"""Keys of ``model.model_config`` of the families with rotary positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from mindcoder.sections import mindformers
from mindcoder.sections.decoder_section import DecoderSection, first_given
from mindcoder.sections.section import Count, Section, Size


class ScalingFactors(Section):
    """``scaling_factor`` with ``extend_method: LLAMA3``."""

    factor: float = Field(gt=0, le=1e6, description="how much longer the context becomes")
    original_max_position_embeddings: Size = Field(description="context length before")
    low_freq_factor: float = Field(
        1.0, gt=0, description="wavelengths above the original context divided by this are scaled"
    )
    high_freq_factor: float = Field(
        4.0, gt=0, description="wavelengths below the original context divided by this stay as they are"
    )


class RotarySection(DecoderSection, mindformers.RotarySection):
    """Keys of the families with rotary positions, under the names of MindFormers' LlamaConfig."""

    max_position_embedding: Size | None = Field(
        None, description="context length in pretraining; default: seq_length; texts may be longer"
    )
    theta: float = Field(10000.0, gt=0, le=1e12, description="base of the rotary position embedding (RoPE)")
    extend_method: Literal["None", "PI", "linear", "DYNAMIC_NTK", "LLAMA3"] = Field(
        "None", description="RoPE scaling for longer contexts; PI and linear are the same"
    )
    scaling_factor: Annotated[float, Field(gt=0, le=1e6)] | ScalingFactors = Field(
        1.0, description="how much longer the context becomes; with LLAMA3 a section of factors"
    )
    pretrain_seqlen: Size | None = Field(None, description="r0.7's way to scale; refused beside an extend_method")
    head_dim: Count | None = Field(None, description="features per head (D); default: hidden_size / num_heads")
    init_method_std: float | None = Field(
        None, gt=0, le=100, description="another name of initializer_range, MindFormers'"
    )

    @property
    def context_length(self) -> int:
        """Context length the model was trained with."""
        return self.max_position_embedding or self.seq_length

    @property
    def init_std(self) -> float:
        """Initial standard deviation of the weight matrices and embeddings."""
        return first_given(self.init_method_std, self.initializer_range, default=0.02)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Besides those of all families: ``scaling_factor`` has the form of its method, and scaling is stated once."""
        yield from super().contradictions()
        scaled = isinstance(self.scaling_factor, ScalingFactors)
        if scaled != (self.extend_method == "LLAMA3"):
            wanted = "factor, original_max_position_embeddings, …" if not scaled else "extend_method: LLAMA3 with them"
            yield "scaling_factor", f"expected {wanted}"
        if self.pretrain_seqlen is not None and self.extend_method != "None":
            factor = self.seq_length / self.pretrain_seqlen
            yield (
                "pretrain_seqlen",
                f"found {self.pretrain_seqlen} beside extend_method {self.extend_method}; "
                f"give scaling_factor: {factor:g} instead",
            )
