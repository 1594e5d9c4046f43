"""Qwen2, 2.5 and 2.5-Coder, CodeQwen1.5: Llama with biases of query, key and value alone (Yang et al. 2024)."""

from __future__ import annotations

from mindcoder.families.base import Family, MindFormersClasses
from mindcoder.families.infill_tokens import InfillTokens, RepositoryForm
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

# github.com/QwenLM/Qwen2.5-Coder, examples/Qwen2.5-Coder-fim.py and Qwen2.5-Coder-repolevel-fim.py
INFILL = InfillTokens(
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
    ends=("<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
    repository=RepositoryForm(
        "<|repo_name|>{name}\n", "<|file_sep|>{path}\n{content}\n", "<|file_sep|>{path}\n", "", False
    ),
    needs=("<|repo_name|>", "<|file_sep|>"),
)
PLAIN_INFILL = InfillTokens("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")  # without the files' marks
# github.com/QwenLM/CodeQwen1.5, README: StarCoder's marks, and <reponame>
CODEQWEN_INFILL = InfillTokens(
    "<fim_prefix>",
    "<fim_suffix>",
    "<fim_middle>",
    ends=("<file_sep>", "<reponame>"),
    repository=RepositoryForm("<reponame>{name}\n", "<file_sep>{path}\n{content}\n", "<file_sep>{path}\n", "", False),
    needs=("<reponame>", "<file_sep>"),
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
    infill=(INFILL, PLAIN_INFILL, CODEQWEN_INFILL),
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
