"""Hugging Face's tensor names that several families share."""

from __future__ import annotations

from mindcoder.families.weight_table import WeightRule


def pairs(huggingface: str, ours: str) -> tuple[WeightRule, WeightRule]:
    """Rules for the weight and the bias of a module."""
    return (
        WeightRule(f"{huggingface}.weight", (f"{ours}.weight",)),
        WeightRule(f"{huggingface}.bias", (f"{ours}.bias",)),
    )


def rotary_attention_rules() -> tuple[WeightRule, ...]:
    """Rules for the tensors outside the MLP that Llama and its descendants name alike."""
    layer, ours = "model.layers.{layer}", "layers.{layer}"
    return (
        WeightRule("model.embed_tokens.weight", ("token_embedding.weight",)),
        *pairs(f"{layer}.input_layernorm", f"{ours}.attention_norm"),
        *pairs(f"{layer}.self_attn.q_proj", f"{ours}.attention.query"),
        *pairs(f"{layer}.self_attn.k_proj", f"{ours}.attention.key"),
        *pairs(f"{layer}.self_attn.v_proj", f"{ours}.attention.value"),
        *pairs(f"{layer}.self_attn.o_proj", f"{ours}.attention.output"),
        *pairs(f"{layer}.post_attention_layernorm", f"{ours}.mlp_norm"),
        *pairs("model.norm", "final_norm"),
        WeightRule("lm_head.weight", ("head.weight",)),
    )


def gated_mlp_rules() -> tuple[WeightRule, ...]:
    """Rules for the MLP that Llama and its descendants name alike."""
    layer, ours = "model.layers.{layer}.mlp", "layers.{layer}.mlp"
    return (
        *pairs(f"{layer}.gate_proj", f"{ours}.gate"),
        *pairs(f"{layer}.up_proj", f"{ours}.up"),
        *pairs(f"{layer}.down_proj", f"{ours}.down"),
    )
