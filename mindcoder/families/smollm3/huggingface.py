"""SmolLM3 in Hugging Face's files: config.json and the names of the tensors."""

from __future__ import annotations

from typing import Any

from mindcoder.families.base import FieldMap
from mindcoder.families.config_fields import ConfigFields, shown
from mindcoder.families.fields import Flag, Number, Only, Token, Whole
from mindcoder.families.smollm3.no_rope import skipped_layers
from mindcoder.families.special_fields import GATED, HeadDim, KeyValueHeads, LayerTypes, Rotary, Silu
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.families.weight_table import WeightTable, gated_mlp_rules, rotary_attention_rules

INTERVAL = 4  # of SmolLM3Config
HARMLESS = "sliding_window"  # of layers without rotary positions, if use_sliding_window were true


class NoRopeLayers:
    """``no_rope_layers``, 0 for those without rotary positions, or ``no_rope_layer_interval``."""

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        flags, interval = fields.get("no_rope_layers"), fields.whole("no_rope_layer_interval", INTERVAL)
        if flags is not None and not isinstance(flags, list):
            raise ValueError(f"no_rope_layers: expected a list, found {shown(flags)}")
        found["no_rope_layers"] = skipped_layers(flags, interval, found["num_layers"])

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        flags = [int(layer not in config.no_rope_layers) for layer in range(config.num_layers)]
        return {"no_rope_layers": flags, "no_rope_layer_interval": INTERVAL}


FIELDS = FieldMap(
    (
        Whole("vocab_size", default=128256),
        Whole("hidden_size", default=2048),
        Whole("num_layers", "num_hidden_layers", 36),
        Whole("num_heads", "num_attention_heads", 16),
        KeyValueHeads(default=4),
        HeadDim(),
        Whole("intermediate_size", default=11008),
        Whole("max_position_embeddings", default=32768),
        Silu(),
        Number("norm_epsilon", "rms_norm_eps", 1e-6),
        Only("attention_bias", (False,)),
        Only("mlp_bias", (False,)),
        Rotary(2000000.0),
        NoRopeLayers(),
        Only("use_sliding_window", (False,)),
        LayerTypes(),
        Number("initializer_range", default=0.02),
        Number("attention_dropout", default=0.0),
        Flag("tied_head", "tie_word_embeddings", True),
        Token("bos_token_id", default=128000),
        Token("eos_token_id", default=128001),
        Token("pad_token_id", default=128004),
    ),
    fixed={"norm": "rms_norm", **GATED},
    harmless=HARMLESS,
)

WEIGHTS = WeightTable(
    rules=(*rotary_attention_rules(), *gated_mlp_rules()),
    ignored=("lm_head.weight", "rotary_emb.inv_freq"),
    prefix="model.",
)
