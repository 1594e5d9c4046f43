"""Keys of ``model.model_config`` of Llama's descendants: RMS norms, a gated MLP, no biases."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mindcoder.sections import mindformers
from mindcoder.sections.rotary_section import RotarySection
from mindcoder.sections.section import Describes, Section, Size


class GatedSection(RotarySection, mindformers.LlamaSection):
    """Keys under the names of MindFormers' LlamaConfig; families state their sizes as defaults."""

    hidden_act: Annotated[Literal["silu", "swish"], Describes("two names of one function")] = "silu"
    rms_norm_eps: float = Field(1e-6, gt=0, le=1, description="added to the mean square in RMS norms")
    tie_word_embeddings: bool = Field(False, description="the head uses the token embedding's weights")


class WindowSection(Section):
    """The key of a sliding window."""

    sliding_window: Size | None = Field(
        None, description="tokens that a token attends to, itself included; default: all"
    )
