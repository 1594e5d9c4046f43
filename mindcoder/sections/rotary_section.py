"""Keys of ``model.model_config`` of the families with rotary positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from mindcoder.sections import mindformers
from mindcoder.sections.decoder_section import DecoderSection, first_given
from mindcoder.sections.section import Count, Ours, Section, Size


class ScalingFactors(Section):
    """``scaling_factor`` as a section: MindFormers' keys of ``LLAMA3``, ``YARN`` and ``linear``, and ours."""

    factor: float = Field(gt=0, le=1e6, description="how much longer the context becomes")
    original_max_position_embeddings: Size | None = Field(None, description="context length before")
    low_freq_factor: float = Field(
        1.0, gt=0, description="LLAMA3: wavelengths above the original context divided by this are scaled"
    )
    high_freq_factor: float = Field(
        4.0, gt=0, description="LLAMA3: wavelengths below the original context divided by this stay as they are"
    )
    beta_slow: float = Field(
        1.0, gt=0, le=1e6, description="YARN: frequencies of fewer rotations within the original context are scaled"
    )
    beta_fast: float = Field(
        32.0, gt=0, le=1e6, description="YARN: frequencies of more rotations within the original context stay"
    )
    mscale: float | None = Field(
        None, ge=0, le=1e6, description="YARN: with mscale_all_dim, determines the attention factor"
    )
    mscale_all_dim: float | None = Field(None, ge=0, le=1e6, description="YARN: see mscale")
    attention_factor: Annotated[float | None, Ours()] = Field(
        None,
        gt=0,
        le=1e6,
        description="YARN, LONGROPE: scale of rotated queries and keys; default: by the method",
    )
    truncate: Annotated[bool, Ours()] = Field(
        True, description="YARN: the bounds of the band between are rounded outwards to whole frequencies"
    )
    short_factor: Annotated[list[float] | None, Ours()] = Field(
        None, description="LONGROPE: what each rotary frequency is divided by, up to the original context"
    )
    long_factor: Annotated[list[float] | None, Ours()] = Field(
        None, description="LONGROPE: what each rotary frequency is divided by, in longer texts"
    )


# Keys of `ScalingFactors` that a method needs, and those it takes besides.
METHODS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "linear": (("factor",), ()),
    "LLAMA3": (("factor", "original_max_position_embeddings"), ("low_freq_factor", "high_freq_factor")),
    "YARN": (
        ("factor", "original_max_position_embeddings"),
        ("beta_slow", "beta_fast", "mscale", "mscale_all_dim", "attention_factor", "truncate"),
    ),
    "LONGROPE": (
        ("factor", "original_max_position_embeddings", "short_factor", "long_factor"),
        ("attention_factor",),
    ),
}
NEED_A_SECTION = ("LLAMA3", "YARN", "LONGROPE")


class RotarySection(DecoderSection, mindformers.RotarySection):
    """Keys of the families with rotary positions, under the names of MindFormers' LlamaConfig."""

    max_position_embedding: Size | None = Field(
        None, description="context length in pretraining; default: seq_length; texts may be longer"
    )
    theta: float = Field(10000.0, gt=0, le=1e12, description="base of the rotary position embedding (RoPE)")
    extend_method: Literal["None", "PI", "linear", "NTK", "DYNAMIC_NTK", "LLAMA3", "YARN", "LONGROPE"] = Field(
        "None", description="RoPE scaling for longer contexts; PI and linear are the same, NTK multiplies theta"
    )
    scaling_factor: Annotated[float, Field(gt=0, le=1e6)] | ScalingFactors = Field(
        1.0, description="how much longer the context becomes; with LLAMA3, YARN and LONGROPE a section of factors"
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
        yield from self._wrong_factors()
        if self.pretrain_seqlen is not None and self.extend_method != "None":
            factor = self.seq_length / self.pretrain_seqlen
            yield (
                "pretrain_seqlen",
                f"found {self.pretrain_seqlen} beside extend_method {self.extend_method}; "
                f"give scaling_factor: {factor:g} instead",
            )

    def _wrong_factors(self) -> Iterator[tuple[str, str]]:
        """Contradictions between ``extend_method`` and the form and keys of ``scaling_factor``."""
        method, factors = self.extend_method, self.scaling_factor
        needed, optional = METHODS.get(method, ((), ()))
        if not isinstance(factors, ScalingFactors):
            if method in NEED_A_SECTION:
                yield "scaling_factor", f"expected {', '.join(needed)}{', …' if optional else ''}"
            return
        if not needed:
            yield "scaling_factor", f"expected extend_method: {', '.join(METHODS)} with them"
            return
        given = factors.model_fields_set
        missing = [name for name in needed if name not in given or getattr(factors, name) is None]
        foreign = [name for name in ScalingFactors.model_fields if name in given and name not in (*needed, *optional)]
        if missing:
            yield "scaling_factor", f"extend_method {method} needs {missing[0]}"
        elif foreign:
            yield "scaling_factor", f"{foreign[0]} has no meaning with extend_method {method}"
        elif factors.beta_fast < factors.beta_slow:
            yield "scaling_factor", f"beta_fast {factors.beta_fast:g} is below beta_slow {factors.beta_slow:g}"
