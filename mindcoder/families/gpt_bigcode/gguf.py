"""GPT-BigCode in GGUF files: general.architecture starcoder, which has one key/value head."""

from __future__ import annotations

from typing import Any

from mindcoder.families.config_fields import ConfigFields
from mindcoder.families.fields import Number
from mindcoder.families.gguf_fields import HeadSize, size_fields
from mindcoder.families.gguf_form import GgufForm, common_rules
from mindcoder.families.gpt_bigcode.huggingface import join_qkv, split_qkv
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.families.weight_table import WeightRule, WeightTable


class OneKeyValueHead:
    """``attention.head_count_kv``, which is 1 in every file: llama.cpp splits the fused tensor by it, and the order of
    multi-head GPT-BigCode's rows is another one.
    """

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        fields.only("attention.head_count_kv", (1,))
        found["num_kv_heads"] = 1

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        if config.num_kv_heads != 1:
            raise ValueError(
                f"every starcoder of GGUF has one key/value head; this GPT-BigCode is multi-head and has "
                f"{config.num_kv_heads} (multi_query false)"
            )
        return {"attention.head_count_kv": 1}


def _qkv(kind: str) -> WeightRule:
    names = tuple(f"layers.{{layer}}.attention.{part}.{kind}" for part in ("query", "key", "value"))
    return WeightRule(f"blk.{{layer}}.attn_qkv.{kind}", names, split_qkv, join_qkv)


FORM = GgufForm(
    architecture="starcoder",
    fields=(*size_fields(), OneKeyValueHead(), HeadSize(), Number("norm_epsilon", "attention.layer_norm_epsilon")),
    weights=WeightTable(rules=common_rules((_qkv("weight"), _qkv("bias")))),
    fixed={
        "norm": "layer_norm",
        "gated_mlp": False,
        "activation": "gelu_tanh",
        "position": "learned",
        "qkv_bias": True,
        "output_bias": True,
        "mlp_bias": True,
        "scale_attention": True,
        "sliding_window": None,
    },
)
