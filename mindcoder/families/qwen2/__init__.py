"""Qwen2, 2.5 and 2.5-Coder, CodeQwen1.5: Llama with biases of query, key and value alone (Yang et al. 2024)."""

from __future__ import annotations

from mindcoder.families.base import Family, InfillTokens, MindFormersClasses
from mindcoder.families.prompt_template import chatml
from mindcoder.families.qwen2.gguf import FORM
from mindcoder.families.qwen2.huggingface import FIELDS, WEIGHTS
from mindcoder.families.qwen2.section import Qwen2Section, network

# The introduction is that of the published chat_template, a copy of which is qwen2.5-instruct.jinja in
# github.com/chujiezheng/chat_templates; Qwen2 and CodeQwen1.5 say "You are a helpful assistant." there.
INSTRUCT = chatml(
    "tokenizer_config.json of Qwen/Qwen2.5-Coder-7B-Instruct",
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
)

FAMILY = Family(
    model_type="qwen2",
    class_prefix="Qwen2",
    field_map=FIELDS,
    weights=WEIGHTS,
    section=Qwen2Section,
    network=network,
    architectures={"Qwen2Config": "Qwen2ForCausalLM"},
    tokenizers=("Qwen2Tokenizer", "Qwen2TokenizerFast"),
    templates={"qwen2.5-instruct": INSTRUCT},
    default_template="qwen2.5-instruct",
    # github.com/QwenLM/Qwen2.5-Coder, examples/Qwen2.5-Coder-fim.py
    infill=(InfillTokens("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),),
    mindformers=(  # which has a Qwen2Config and a Qwen2ForCausalLM of its own
        MindFormersClasses(
            "Qwen2Config",
            config="QwenCoderConfig",
            model="QwenCoderForCausalLM",
            tokenizer="QwenCoderTokenizer",
            model_type="qwencoder",
        ),
    ),
    gguf=FORM,
)
