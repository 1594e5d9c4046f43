"""Named prompt templates of published models that share a family with others; for folders without a chat template.

An answer ends with the end token of the models' tokenizers: ``<|eot_id|>``, ``<|EOT|>``, ``</s>``, ``<|end_of_text|>``.
"""

from __future__ import annotations

from mindcoder.families.prompt_template import PromptTemplate

LLAMA3 = PromptTemplate(
    "<|start_header_id|>user<|end_header_id|>\n\n{instruction}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "<|start_header_id|>user<|end_header_id|>\n\n{instruction}\n\n{input}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "github.com/meta-llama/llama3, ChatFormat; Llama 3 Instruct (3.1 and later write a date besides)",
    turn_mark="<|start_header_id|>user",
    between="",
    system="<|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>",
    is_chat_template=True,
    strips_questions=True,
)
DEEPSEEK_INTRODUCTION = (
    "You are an AI programming assistant, utilizing the DeepSeek Coder model, developed by DeepSeek Company, and you "
    "only answer questions related to computer science. For politically sensitive questions, security and privacy "
    "issues, and other non-computer science questions, you will refuse to answer.\n"
)
DEEPSEEK_CODER = PromptTemplate(
    DEEPSEEK_INTRODUCTION + "### Instruction:\n{instruction}\n### Response:\n",
    DEEPSEEK_INTRODUCTION + "### Instruction:\n{instruction}\n\n{input}\n### Response:\n",
    "github.com/deepseek-ai/DeepSeek-Coder, finetune/finetune_deepseekcoder.py; DeepSeek-Coder Instruct",
    after_answer="\n",
    turn_mark="### Instruction:",
    between="\n",
    system="{system}\n",
    is_chat_template=True,
)
MISTRAL = PromptTemplate(
    "[INST] {instruction}[/INST]",
    "[INST] {instruction}\n\n{input}[/INST]",
    "github.com/mistralai/mistral-common, the v3 form; Mistral 7B Instruct v0.3, Codestral",
    before_answer=" ",
    system="{system}\n\n",
    system_is_inside=True,
    is_chat_template=True,
)
GRANITE = PromptTemplate(
    "<|start_of_role|>user<|end_of_role|>{instruction}<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
    "<|start_of_role|>user<|end_of_role|>{instruction}\n\n{input}<|end_of_text|>\n"
    "<|start_of_role|>assistant<|end_of_role|>",
    "tokenizer_config.json of ibm-granite/granite-3.1-8b-instruct, without its dated system message",
    turn_mark="<|start_of_role|>user",
    between="\n",
    system="<|start_of_role|>system<|end_of_role|>{system}<|end_of_text|>\n",
    is_chat_template=True,
)
INSTRUCT_TEMPLATES = {
    "llama3-instruct": LLAMA3,
    "deepseek-coder-instruct": DEEPSEEK_CODER,
    "mistral-instruct": MISTRAL,
    "granite-instruct": GRANITE,
}
