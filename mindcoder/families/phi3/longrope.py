"""Phi-3's rotary fields: longrope, whose original context is a field of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mindcoder.families.config_fields import ConfigFields, shown
from mindcoder.families.rope_scaling import RopeScaling
from mindcoder.families.rotary_fields import ORIGINAL, Found
from mindcoder.families.special_fields import Rotary
from mindcoder.families.transformer_config import TransformerConfig

DEFAULT_ORIGINAL = 4096  # of Phi3Config
NAMES = ("longrope", "su", "yarn")  # the last two are those of the first files, which transformers reads alike
KEYS = ("type", "rope_type", "short_factor", "long_factor")


def longrope(short: Sequence[float], long: Sequence[float], original: int, longest: int) -> RopeScaling:
    """The scaling from a context of ``original`` tokens to one of ``longest``."""
    return RopeScaling("longrope", longest / original, original, short_factors=tuple(short), long_factors=tuple(long))


class LongRotary(Rotary):
    """Theta, and longrope where there is a scaling."""

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        original, scaling = fields.whole(ORIGINAL, DEFAULT_ORIGINAL), fields.get("rope_scaling")
        if not isinstance(scaling, Mapping) or not ({scaling.get("type"), scaling.get("rope_type")} & {*NAMES}):
            super().read(fields, found)
            return
        for name in scaling:
            if name not in KEYS:
                raise ValueError(f"rope_scaling: {shown(name)} of longrope is not implemented")
        fields.only("rope_parameters", (None,))
        short, long = (Found("rope_scaling", scaling).numbers(name) for name in ("short_factor", "long_factor"))
        found["position"] = "rope"
        found["rope_theta"] = fields.number("rope_theta", self.default_theta)
        found["rope_scaling"] = longrope(short, long, original, found["max_position_embeddings"])

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        scaling = config.rope_scaling
        if scaling is None or scaling.kind != "longrope":
            return {ORIGINAL: config.max_position_embeddings, **super().write(config)}
        factors = {"short_factor": list(scaling.short_factors), "long_factor": list(scaling.long_factors)}
        return {
            ORIGINAL: scaling.original_length,
            "rope_theta": config.rope_theta,
            "rope_scaling": {"type": "longrope", **factors},
        }
