"""Qwen2 in Hugging Face's files: config.json and the names of the tensors."""

from __future__ import annotations

from typing import Any

from mindcoder.families.base import FieldMap
from mindcoder.families.config_fields import ConfigFields
from mindcoder.families.fields import Flag, Number, Only, Repeats, Token, Whole
from mindcoder.families.special_fields import HeadDim, KeyValueHeads, LayerTypes, Rotary, Silu
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.families.weight_table import WeightTable, gated_mlp_rules, rotary_attention_rules

HARMLESS = "seq_length"  # in CodeQwen1.5's files beside max_position_embeddings; transformers does not read it


class SlidingWindow:
    """``sliding_window`` counts if ``use_sliding_window`` says so, in the layers from ``max_window_layers`` on."""

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        used, first = fields.flag("use_sliding_window", False), fields.whole("max_window_layers", 28)
        given = fields.get("sliding_window", 4096)
        window = fields.whole("sliding_window", 4096) if given is not None else None
        layers = found["num_layers"]
        if not used or first >= layers:
            window = None
        if window is not None and first > 0:
            raise ValueError(
                f"max_window_layers {first} of {layers} layers: a sliding window on part of the layers is not "
                "implemented; expected 0, or use_sliding_window false"
            )
        found["sliding_window"] = window

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        window = config.sliding_window
        return {
            "use_sliding_window": window is not None,
            "sliding_window": window,
            "max_window_layers": config.num_layers if window is None else 0,
        }


FIELDS = FieldMap(
    (
        Whole("vocab_size", default=151936),
        Whole("hidden_size", default=4096),
        Whole("num_layers", "num_hidden_layers", 32),
        Whole("num_heads", "num_attention_heads", 32),
        KeyValueHeads(default=32),
        HeadDim(),
        Whole("intermediate_size", default=22016),
        Whole("max_position_embeddings", default=32768),
        Silu(),
        Number("norm_epsilon", "rms_norm_eps", 1e-6),
        Rotary(),
        Repeats("rotary_emb_base", "rope_theta"),
        Only("use_mrope", (False,)),
        SlidingWindow(),
        LayerTypes(),
        Number("initializer_range", default=0.02),
        Number("attention_dropout", default=0.0),
        Flag("tied_head", "tie_word_embeddings", False),
        Token("bos_token_id"),
        Token("eos_token_id"),
        Token("pad_token_id"),
    ),
    fixed={"norm": "rms_norm", "gated_mlp": True, "qkv_bias": True, "output_bias": False, "mlp_bias": False},
    harmless=HARMLESS,
)

WEIGHTS = WeightTable(
    rules=(*rotary_attention_rules(), *gated_mlp_rules()),
    ignored=("lm_head.weight", "rotary_emb.inv_freq"),
    prefix="model.",
)
