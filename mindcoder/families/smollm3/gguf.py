"""SmolLM3 in GGUF files: general.architecture smollm3."""

from __future__ import annotations

from typing import Any

from mindcoder.families.config_fields import ConfigFields
from mindcoder.families.fields import Number
from mindcoder.families.gguf_fields import HeadSize, KeyValueHeads, Rotary, size_fields
from mindcoder.families.gguf_form import GgufForm, common_rules
from mindcoder.families.llama.gguf import neighbouring_attention_rules
from mindcoder.families.smollm3.no_rope import skipped_layers
from mindcoder.families.special_fields import GATED
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.families.weight_table import WeightTable

INTERVAL = 4  # llama.cpp's; files do not say it


class NoRopeLayers:
    """Every fourth layer has no rotary positions."""

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        found["no_rope_layers"] = skipped_layers(None, INTERVAL, found["num_layers"])

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        if config.no_rope_layers != skipped_layers(None, INTERVAL, config.num_layers):
            raise ValueError(
                f"no_rope_layers are {list(config.no_rope_layers)}; llama.cpp leaves every {INTERVAL}th layer "
                "without rotary positions"
            )
        return {}


FORM = GgufForm(
    architecture="smollm3",
    fields=(
        *size_fields(),
        KeyValueHeads(),
        HeadSize(may_differ=True),
        Number("norm_epsilon", "attention.layer_norm_rms_epsilon"),
        Rotary(),
        NoRopeLayers(),
    ),
    weights=WeightTable(rules=common_rules(neighbouring_attention_rules())),
    fixed={
        "norm": "rms_norm",
        "activation": "silu",
        "position": "rope",
        "sliding_window": None,
        "scale_attention": True,
        "attention_multiplier": 0.0,
        **GATED,
    },
)
