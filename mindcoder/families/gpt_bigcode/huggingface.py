"""GPT-BigCode in Hugging Face's files: config.json and the names of the tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mindcoder.families.base import FieldMap
from mindcoder.families.config_fields import ConfigFields
from mindcoder.families.fields import Flag, Number, Only, Repeats, Token, Whole
from mindcoder.families.special_fields import Gelu
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.families.weight_table import WeightRule, WeightTable, pairs

if TYPE_CHECKING:
    import numpy as np

# The softmax is computed in float32 regardless of these, as in transformers' eager attention; the rest belonged to an
# inference runner that transformers has removed, and to heads of other tasks.
HARMLESS = """
    attention_softmax_in_fp32 scale_attention_softmax_in_fp32
    inference_runner max_batch_size max_sequence_length pad_key_length pre_allocate_kv_cache validate_runner_input
    summary_activation summary_first_dropout summary_proj_to_logits summary_type summary_use_proj
"""


class InnerSize:
    """Intermediate size of the MLP; null means four times the hidden size."""

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        inner = fields.optional_whole("n_inner")
        found["intermediate_size"] = 4 * found["hidden_size"] if inner is None else inner

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        return {"n_inner": config.intermediate_size}


@dataclass(frozen=True)
class MultiQuery:
    """One key/value head for all query heads, or one for each."""

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        found["num_kv_heads"] = 1 if fields.flag("multi_query", True) else found["num_heads"]

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        return {"multi_query": config.num_kv_heads == 1}


FIELDS = FieldMap(
    (
        Whole("vocab_size", default=50257),
        Whole("hidden_size", "n_embd", 768),
        Whole("num_layers", "n_layer", 12),
        Whole("num_heads", "n_head", 12),
        InnerSize(),
        Whole("max_position_embeddings", "n_positions", 1024),
        MultiQuery(),
        Repeats("num_key_value_heads", "num_kv_heads"),
        Gelu("activation_function"),
        Number("norm_epsilon", "layer_norm_epsilon", 1e-5),
        Number("initializer_range", default=0.02),
        Flag("scale_attention", "scale_attn_weights", True),
        Only("scale_attn_by_inverse_layer_idx", (False,)),
        Only("reorder_and_upcast_attn", (False,)),
        Number("embedding_dropout", "embd_pdrop", 0.1),
        Number("attention_dropout", "attn_pdrop", 0.1),
        Number("hidden_dropout", "resid_pdrop", 0.1),
        Flag("tied_head", "tie_word_embeddings", True),
        Token("bos_token_id", default=50256),
        Token("eos_token_id", default=50256),
        Token("pad_token_id"),
    ),
    aliases={  # GPTBigCodeConfig.attribute_map
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    },
    harmless=HARMLESS,
)


def split_qkv(tensor: np.ndarray, config: TransformerConfig) -> Sequence[np.ndarray]:
    """Split ``c_attn``: [queries | key | value] with multi-query attention, otherwise [q, k, v] per head."""
    hidden, size = config.hidden_size, config.head_dim
    if config.num_kv_heads == 1:
        return tensor[:hidden], tensor[hidden : hidden + size], tensor[hidden + size :]
    heads = tensor.reshape(config.num_heads, 3, size, *tensor.shape[1:])
    return tuple(heads[:, part].reshape(hidden, *tensor.shape[1:]) for part in range(3))


def join_qkv(parts: Sequence[np.ndarray], config: TransformerConfig) -> np.ndarray:
    """The inverse of `split_qkv`."""
    import numpy as np  # not above: reading a YAML file needs no arrays

    if config.num_kv_heads == 1:
        return np.concatenate(parts)
    shape = parts[0].shape[1:]
    heads = [part.reshape(config.num_heads, 1, config.head_dim, *shape) for part in parts]
    return np.concatenate(heads, axis=1).reshape(3 * config.hidden_size, *shape)


def _qkv(kind: str) -> WeightRule:
    names = tuple(f"layers.{{layer}}.attention.{part}.{kind}" for part in ("query", "key", "value"))
    return WeightRule(f"transformer.h.{{layer}}.attn.c_attn.{kind}", names, split_qkv, join_qkv)


WEIGHTS = WeightTable(
    rules=(
        WeightRule("transformer.wte.weight", ("token_embedding.weight",)),
        WeightRule("transformer.wpe.weight", ("position_embedding.weight",)),
        *pairs("transformer.h.{layer}.ln_1", "layers.{layer}.attention_norm"),
        _qkv("weight"),
        _qkv("bias"),
        *pairs("transformer.h.{layer}.attn.c_proj", "layers.{layer}.attention.output"),
        *pairs("transformer.h.{layer}.ln_2", "layers.{layer}.mlp_norm"),
        *pairs("transformer.h.{layer}.mlp.c_fc", "layers.{layer}.mlp.up"),
        *pairs("transformer.h.{layer}.mlp.c_proj", "layers.{layer}.mlp.down"),
        *pairs("transformer.ln_f", "final_norm"),
        WeightRule("lm_head.weight", ("head.weight",)),
    ),
    ignored=("lm_head.weight", "attn.bias", "attn.masked_bias"),
    prefix="transformer.",
)
