"""GGUF files written by the ``gguf`` package, from tensors under Hugging Face's names: what ours are compared with.

The keys and the order of Llama's rows are those of llama.cpp's convert_hf_to_gguf.py, which the package comes from.
"""

from __future__ import annotations

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "starcoder2": gguf.MODEL_ARCH.STARCODER2,
    "gpt_bigcode": gguf.MODEL_ARCH.STARCODER,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "granite": gguf.MODEL_ARCH.GRANITE,
    "smollm3": gguf.MODEL_ARCH.SMOLLM3,
    "phi3": gguf.MODEL_ARCH.PHI3,
}
TURNED = ("llama", "granite", "smollm3")  # whose converters derive from Llama's, with its order of rows


def permuted(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys as llama.cpp's Llama wants them."""
    half = len(values) // heads // 2
    return values.reshape(heads, 2, half, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def write_reference(file, config: dict, tensors: dict, kind: Kind = Kind.F32, metadata=None) -> dict[str, np.ndarray]:
    """Write a file; returns the values that it holds, decoded by the package, under Hugging Face's names."""
    family = config["model_type"]
    arch = ARCHITECTURES[family]
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[arch])
    bigcode = family == "gpt_bigcode"
    layers = config["n_layer" if bigcode else "num_hidden_layers"]
    heads = config["n_head" if bigcode else "num_attention_heads"]
    kv_heads = 1 if bigcode else config.get("num_key_value_heads") or heads
    hidden = config["n_embd" if bigcode else "hidden_size"]
    writer.add_name("a model")
    writer.add_context_length(config["n_positions" if bigcode else "max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(config["n_inner" if bigcode else "intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    if bigcode or family == "starcoder2":
        writer.add_layer_norm_eps(config["layer_norm_epsilon" if bigcode else "norm_epsilon"])
    else:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if not bigcode:
        writer.add_rope_freq_base(config["rope_theta"])
        head_dim = config.get("head_dim") or hidden // heads
        if config.get("head_dim"):
            writer.add_key_length(head_dim)
            writer.add_value_length(head_dim)
        writer.add_rope_dimension_count(int(head_dim * config.get("partial_rotary_factor", 1.0)))
        if family == "granite":
            writer.add_attention_scale(config["attention_multiplier"])
            writer.add_embedding_scale(config["embedding_multiplier"])
            writer.add_residual_scale(config["residual_multiplier"])
            writer.add_logit_scale(config["logits_scaling"])
        if family == "phi3":
            writer.add_sliding_window(config.get("sliding_window") or 0)
        scaling = config.get("rope_scaling") or {}
        if scaling.get("rope_type") == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(scaling["factor"])
    for key, value in (metadata or {}).items():
        add(writer, key, value)
    names = gguf.get_tensor_name_map(arch, layers)
    decoded = {}
    for name, values in tensors.items():
        base, _, part = name.rpartition(".")
        theirs = f"{names.get_name(base) or base}.{part}"
        turn = {"q_proj": heads, "k_proj": kv_heads}.get(base.rpartition(".")[2]) if family in TURNED else None
        stored = values if turn is None else permuted(values, turn)
        used = Kind.F32 if values.ndim == 1 or "position" in theirs else kind
        block, _ = gguf.GGML_QUANT_SIZES[used]
        if values.shape[-1] % block:
            used = Kind.F16
        data = gguf.quants.quantize(stored.astype(np.float32), used)
        writer.add_tensor(theirs, data, raw_dtype=used)
        found = np.asarray(gguf.quants.dequantize(data, used), np.float32).reshape(values.shape)
        if turn is not None:
            half = len(values) // turn // 2
            found = found.reshape(turn, half, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
        decoded[name] = found
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return decoded


def add(writer: gguf.GGUFWriter, key: str, value) -> None:
    """A key of the type that its value has in Python."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    else:
        writer.add_string(key, value)


def random_tensors(family: str, config: dict, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights under Hugging Face's names, in the shapes of our own table."""
    from mindcoder.checkpoint.huggingface_names import plans_from_ours
    from mindcoder.checkpoint.plan import TensorPlan
    from mindcoder.checkpoint.stored_tensor import StoredTensor
    from mindcoder.families.registry import family_of

    rng = np.random.default_rng(seed)
    network = family_of(family).config_from_huggingface(config)
    plans = {}
    for name, shape in network.parameter_shapes().items():
        values = rng.standard_normal(shape).astype(np.float32)
        stored = StoredTensor(name, file=None, dtype="F32", shape=shape, loaded=values)
        plans[name] = TensorPlan(name, shape, "F32", (stored,))
    return {plan.name: plan.read() for plan in plans_from_ours(plans, network)}


def small_config(family: str, **overrides) -> dict:
    """A ``config.json`` whose rows are whole blocks of 32, in part of 256."""
    if family == "gpt_bigcode":
        sizes = {"n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_inner": 256}
        return {"model_type": family, "vocab_size": 300, "layer_norm_epsilon": 1e-5, **sizes, **overrides}
    sizes = {
        "max_position_embeddings": 64,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 256,
        "rope_theta": 10000.0,
    }
    epsilon = {"norm_epsilon": 1e-5} if family == "starcoder2" else {"rms_norm_eps": 1e-6}
    return {"model_type": family, "vocab_size": 300, **sizes, **epsilon, **overrides}
