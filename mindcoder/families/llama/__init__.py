"""Llama 1 and 2, Code Llama, WizardCoder-Python (Touvron et al. 2023; Rozière et al. 2023)."""

from __future__ import annotations

from mindcoder.families.base import Family
from mindcoder.families.infill_tokens import InfillTokens
from mindcoder.families.llama.gguf import FORM
from mindcoder.families.llama.huggingface import FIELDS, WEIGHTS
from mindcoder.families.llama.mindformers import CLASSES, OTHER_ARCHITECTURES
from mindcoder.families.llama.section import LlamaSection, network
from mindcoder.families.prompt_template import PromptTemplate

CHAT = PromptTemplate(
    "[INST] {instruction} [/INST]",
    "[INST] {instruction}\n\n{input} [/INST]",
    "github.com/meta-llama/llama, chat_completion; Llama 2 Chat and Code Llama Instruct",
    before_answer=" ",
    system="<<SYS>>\n{system}\n<</SYS>>\n\n",
    system_is_inside=True,
    turns_begin_anew=True,
    is_chat_template=True,
    strips_questions=True,
)

FAMILY = Family(
    model_type="llama",
    class_prefix="Llama",
    field_map=FIELDS,
    weights=WEIGHTS,
    section=LlamaSection,
    network=network,
    architectures={"LlamaConfig": "LlamaForCausalLM", "CodeLlamaConfig": "LlamaForCausalLM"},
    other_architectures=OTHER_ARCHITECTURES,
    tokenizers=(
        "LlamaTokenizer",
        "LlamaTokenizerFast",
        "LLaMATokenizer",
        "LlamaProcessor",
        "Llama3Tokenizer",
        "CodeLlamaTokenizer",
        "CodeLlamaTokenizerFast",
    ),
    templates={"llama2-chat": CHAT},
    default_template="llama2-chat",
    infill=(InfillTokens("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"),),  # Code Llama's; U+2581 is SentencePiece's space
    mindformers=CLASSES,
    gguf=FORM,
)
