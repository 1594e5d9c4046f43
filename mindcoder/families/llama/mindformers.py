"""Llama in MindFormers, which keeps ``LlamaForCausalLM`` and the names beside it for its own classes."""

from __future__ import annotations

from mindcoder.families.base import MindFormersClasses, OtherArchitecture

CLASSES = (
    MindFormersClasses(
        "CodeLlamaConfig",
        config="CodeLlamaConfig",
        model="CodeLlamaForCausalLM",
        tokenizer="CodeLlamaCodeTokenizer",
        model_type="codellama",
        # From mindspore-lab/mindformers r1.1.0, mindformers/models/llama/llama_config.py.
        defaults={
            "seq_length": 2048,
            "compute_dtype": "float16",
            "layernorm_compute_type": "float32",
            "softmax_compute_type": "float32",
            "param_init_type": "float16",
            "max_decode_length": 1024,
            "top_k": 5,
            "do_sample": True,
        },
    ),
)
OTHER_ARCHITECTURES = (
    OtherArchitecture(
        "ParallelLlamaForCausalLM", "LlamaForCausalLM", "LlamaForCausalLM; the layout is parallel_config's"
    ),
    OtherArchitecture("LlamaForCausalLMWithLora", "LlamaForCausalLM", "LlamaForCausalLM with LoRA", has_lora=True),
)
