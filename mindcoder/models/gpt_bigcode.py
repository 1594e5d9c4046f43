"""GPT-BigCode: StarCoder, StarCoderBase, SantaCoder-style models and WizardCoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mindcoder.models.config_fields import ConfigFields
from mindcoder.models.huggingface_fields import pairs, read_activation, token_id_fields, write_activation
from mindcoder.models.transformer_config import TransformerConfig
from mindcoder.models.weight_table import WeightRule, WeightTable

MODEL_TYPE = "gpt_bigcode"
ALIASES = {  # GPTBigCodeConfig.attribute_map
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
# The softmax is computed in float32 regardless of these, as in transformers' eager attention; the rest belonged to an
# inference runner that transformers has removed, and to heads of other tasks.
HARMLESS = """
    attention_softmax_in_fp32 scale_attention_softmax_in_fp32
    inference_runner max_batch_size max_sequence_length pad_key_length pre_allocate_kv_cache validate_runner_input
    summary_activation summary_first_dropout summary_proj_to_logits summary_type summary_use_proj
"""


def config_from_huggingface(config: Mapping[str, Any]) -> TransformerConfig:
    """Read the ``config.json`` of a ``GPTBigCodeForCausalLM`` (field names and defaults of GPTBigCodeConfig).

    Raises:
        ValueError: a field is unknown, or has a value that is not implemented for this family.
    """
    fields = ConfigFields(config, ALIASES)
    heads, hidden = fields.whole("n_head", 12), fields.whole("n_embd", 768)
    kv_heads = 1 if fields.flag("multi_query", True) else heads
    fields.only("num_key_value_heads", (kv_heads,))
    fields.only("scale_attn_by_inverse_layer_idx", (False,))
    fields.only("reorder_and_upcast_attn", (False,))
    inner = fields.optional_whole("n_inner")
    network = TransformerConfig(
        model_type=MODEL_TYPE,
        vocab_size=fields.whole("vocab_size", 50257),
        hidden_size=hidden,
        num_layers=fields.whole("n_layer", 12),
        num_heads=heads,
        num_kv_heads=kv_heads,
        intermediate_size=4 * hidden if inner is None else inner,
        max_position_embeddings=fields.whole("n_positions", 1024),
        norm_epsilon=fields.number("layer_norm_epsilon", 1e-5),
        activation=read_activation(fields, "activation_function"),
        initializer_range=fields.number("initializer_range", 0.02),
        scale_attention=fields.flag("scale_attn_weights", True),
        embedding_dropout=fields.number("embd_pdrop", 0.1),
        attention_dropout=fields.number("attn_pdrop", 0.1),
        hidden_dropout=fields.number("resid_pdrop", 0.1),
        tied_head=fields.flag("tie_word_embeddings", True),
        bos_token_id=fields.token("bos_token_id", 50256),
        eos_token_id=fields.token("eos_token_id", 50256),
        pad_token_id=fields.token("pad_token_id"),
    )
    fields.finish("GPTBigCode", HARMLESS)
    return network


def config_to_huggingface(config: TransformerConfig) -> dict[str, Any]:
    """Write a ``config.json`` that transformers reads."""
    return {
        "architectures": ["GPTBigCodeForCausalLM"],
        "model_type": MODEL_TYPE,
        "vocab_size": config.vocab_size,
        "n_embd": config.hidden_size,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": config.intermediate_size,
        "n_positions": config.max_position_embeddings,
        "multi_query": config.num_kv_heads == 1,
        "activation_function": write_activation(config.activation),
        "layer_norm_epsilon": config.norm_epsilon,
        "initializer_range": config.initializer_range,
        "scale_attn_weights": config.scale_attention,
        "embd_pdrop": config.embedding_dropout,
        "attn_pdrop": config.attention_dropout,
        "resid_pdrop": config.hidden_dropout,
        "tie_word_embeddings": config.tied_head,
        **token_id_fields(config),
    }


def _split_qkv(tensor: np.ndarray, config: TransformerConfig) -> Sequence[np.ndarray]:
    """Split ``c_attn``: [queries | key | value] with multi-query attention, otherwise [q, k, v] per head."""
    hidden, size = config.hidden_size, config.head_dim
    if config.num_kv_heads == 1:
        return tensor[:hidden], tensor[hidden : hidden + size], tensor[hidden + size :]
    heads = tensor.reshape(config.num_heads, 3, size, *tensor.shape[1:])
    return tuple(heads[:, part].reshape(hidden, *tensor.shape[1:]) for part in range(3))


def _join_qkv(parts: Sequence[np.ndarray], config: TransformerConfig) -> np.ndarray:
    if config.num_kv_heads == 1:
        return np.concatenate(parts)
    shape = parts[0].shape[1:]
    heads = [part.reshape(config.num_heads, 1, config.head_dim, *shape) for part in parts]
    return np.concatenate(heads, axis=1).reshape(3 * config.hidden_size, *shape)


def _qkv(kind: str) -> WeightRule:
    names = tuple(f"layers.{{layer}}.attention.{part}.{kind}" for part in ("query", "key", "value"))
    return WeightRule(f"transformer.h.{{layer}}.attn.c_attn.{kind}", names, _split_qkv, _join_qkv)


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
