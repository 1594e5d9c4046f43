"""How the rotary positions of a model are scaled for a longer context."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

Kind = Literal["linear", "dynamic", "llama3", "longrope", "yarn"]
KINDS: tuple[str, ...] = get_args(Kind)
LISTS = ("short_factors", "long_factors")
OF_LATER_KINDS = ("beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate", "given_attention_factor")


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are scaled for a longer context (HF ``rope_scaling``).

    Attributes:
        kind: ``linear`` (Chen et al. 2023), ``dynamic`` (NTK-aware, grows with the sequence), ``llama3``, ``longrope``
            (Ding et al. 2024), which changes once a sequence exceeds the original context, or ``yarn`` (Peng et al.
            2023).
        factor: scaling factor.
        original_length: context the model was pretrained with (not of linear).
        low_freq_factor, high_freq_factor: bounds of the interpolated band (llama3).
        short_factors, long_factors: what each frequency is divided by up to the original context and beyond (longrope).
        beta_fast, beta_slow: rotations within the original context from which a frequency is kept, and up to which it
            is divided by ``factor`` (yarn).
        mscale, mscale_all_dim: if both are given, the attention factor is a quotient of theirs (yarn); 0: not given.
        truncate: whether the bounds of the band between are rounded outwards to whole pairs (yarn).
        given_attention_factor: `attention_factor` itself (yarn, longrope); 0: by the kind's rule.
    """

    kind: Kind
    factor: float
    original_length: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    truncate: bool = True
    given_attention_factor: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"rope_scaling kind must be one of {', '.join(KINDS)}, found {self.kind!r:.60}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("kind", "truncate", *LISTS):
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e9:
                raise ValueError(f"rope_scaling {field.name} must be a number from 0 to 1e9, found {value!r:.60}")
        if not self.factor:
            raise ValueError("rope_scaling factor must be above 0")
        if not isinstance(self.truncate, bool):
            raise ValueError(f"rope_scaling truncate must be true or false, found {self.truncate!r:.60}")
        if self.kind == "yarn" and not (self.original_length and self.beta_fast and self.beta_slow):
            raise ValueError("rope_scaling yarn needs original_length, beta_fast and beta_slow above 0")
        for name in LISTS:
            values = tuple(getattr(self, name))  # a list, from JSON
            if any(isinstance(value, bool) or not isinstance(value, int | float) or value <= 0 for value in values):
                raise ValueError(f"rope_scaling {name} must be numbers above 0, found {values!r:.60}")
            object.__setattr__(self, name, values)

    @property
    def depends_on_length(self) -> bool:
        """Whether the keys of a text that has outgrown the original context differ from those before."""
        return self.kind in ("dynamic", "longrope")

    @property
    def attention_factor(self) -> float:
        """What cosines and sines are multiplied by (longrope, yarn)."""
        if self.kind not in ("longrope", "yarn"):
            return 1.0
        if self.given_attention_factor:
            return self.given_attention_factor
        if self.factor <= 1:
            return 1.0
        if self.kind == "longrope":
            return math.sqrt(1 + math.log(self.factor) / math.log(self.original_length))
        if self.mscale and self.mscale_all_dim:
            return yarn_mscale(self.factor, self.mscale) / yarn_mscale(self.factor, self.mscale_all_dim)
        return yarn_mscale(self.factor, 1.0)

    def as_data(self) -> dict[str, Any]:
        """Its fields as JSON gives them back; what says nothing is left out where older versions lacked the field."""
        found = dict(vars(self))
        for name in LISTS:
            values = found.pop(name)
            if values:
                found[name] = list(values)
        defaults = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in found.items() if name not in OF_LATER_KINDS or value != defaults[name]}


def yarn_mscale(factor: float, mscale: float) -> float:
    """YaRN's attention factor for a context ``factor`` times as long (Peng et al. 2023, equation 22)."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0
