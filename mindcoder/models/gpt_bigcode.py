"""GPT-BigCode: StarCoder, StarCoderBase, SantaCoder-style models and WizardCoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mindcoder.models.huggingface_fields import first_id, pairs, read_activation, token_id_fields, write_activation
from mindcoder.models.transformer_config import TransformerConfig
from mindcoder.models.weight_table import WeightRule, WeightTable

MODEL_TYPE = "gpt_bigcode"


def config_from_huggingface(config: Mapping[str, Any]) -> TransformerConfig:
    """Read a ``config.json`` of ``GPTBigCodeForCausalLM`` (field names and defaults of GPTBigCodeConfig).

    Raises:
        ValueError: a field has a value that this family's code does not implement.
    """
    heads, hidden = config.get("n_head", 12), config.get("n_embd", 768)
    return TransformerConfig(
        model_type=MODEL_TYPE,
        vocab_size=config.get("vocab_size", 50257),
        hidden_size=hidden,
        num_layers=config.get("n_layer", 12),
        num_heads=heads,
        num_kv_heads=1 if config.get("multi_query", True) else heads,
        intermediate_size=config.get("n_inner") or 4 * hidden,
        max_position_embeddings=config.get("n_positions", 1024),
        norm_epsilon=config.get("layer_norm_epsilon", 1e-5),
        activation=read_activation(config, "activation_function"),
        initializer_range=config.get("initializer_range", 0.02),
        scale_attention=config.get("scale_attn_weights", True),
        embedding_dropout=config.get("embd_pdrop", 0.1),
        attention_dropout=config.get("attn_pdrop", 0.1),
        hidden_dropout=config.get("resid_pdrop", 0.1),
        tied_head=config.get("tie_word_embeddings", True),
        bos_token_id=config.get("bos_token_id", 50256),
        eos_token_id=first_id(config.get("eos_token_id", 50256)),
        pad_token_id=config.get("pad_token_id"),
    )


def config_to_huggingface(config: TransformerConfig) -> dict[str, Any]:
    """The ``config.json`` that transformers reads."""
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
    """``c_attn``: [queries | key | value] with multi-query, [q, k, v] head by head without."""
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
