"""Networks that several benchmarks use."""

from __future__ import annotations

from mindcoder.families.transformer_config import TransformerConfig


def llama(vocab_size: int, hidden_size: int, num_layers: int, num_heads: int, intermediate_size: int, length: int):
    """A Llama without grouped keys, for texts of ``length`` tokens."""
    return TransformerConfig(
        model_type="llama",
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        intermediate_size=intermediate_size,
        max_position_embeddings=length,
        position="rope",
        norm="rms_norm",
        activation="silu",
        gated_mlp=True,
        qkv_bias=False,
        output_bias=False,
        mlp_bias=False,
        tied_head=False,
    )
