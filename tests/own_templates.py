"""Chat templates in the form of the families' published ones, written here; and a tokenizer with all of their marks."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

# Each text makes the same prompts as the published template: ChatML with a default system message and Hermes' tools
# (Qwen2.5), Llama 2 Chat's and Llama 3 Instruct's marks, DeepSeek-Coder's "### Instruction:", Mistral's [INST] with
# system in the first question, StarCoder2-Instruct's introduction, Granite 3's <|start_of_role|>, Phi-3's <|user|>,
# Gemma's <start_of_turn>, which calls the assistant "model" and knows no system message.
CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a coder.<|im_end|>\n{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
QWEN = """\
{%- set system = messages[0].content if messages[0].role == 'system' else 'You are Q.' %}
{{- '<|im_start|>system\\n' + system }}
{%- if tools %}
{{- '\\n\\n# Tools\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
{{- '\\n</tools>' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for m in messages %}
{%- if m.role == 'user' or (m.role == 'assistant' and not m.tool_calls) %}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}
{%- elif m.role == 'assistant' %}
{{- '<|im_start|>assistant' }}
{%- if m.content %}{{- '\\n' + m.content }}{%- endif %}
{%- for call in m.tool_calls %}
{%- set call = call.function if call.function else call %}
{{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}{{- call.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif m.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
{{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set rest = messages %}{% set system = false %}{% endif %}{% for m in rest %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
    "{% if loop.index0 == 0 and system != false %}"
    "{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + m['content'] %}"
    "{% else %}{% set content = m['content'] %}{% endif %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{% for m in messages %}{% set content = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + "
    "m['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
DEEPSEEK_CODER = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% else %}"
    "{{ 'You are an AI programming assistant.\\n' }}{% endif %}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ '### Instruction:\\n' + m['content'] + '\\n' }}"
    "{% elif m['role'] == 'assistant' %}{{ '### Response:\\n' + m['content'] + '\\n<|EOT|>\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:' }}{% endif %}"
)
MISTRAL = """\
{%- if messages[0].role == 'system' %}{% set system = messages[0].content + '\\n\\n' %}{% set rest = messages[1:] %}
{%- else %}{% set system = '' %}{% set rest = messages %}{% endif %}
{{- bos_token }}
{%- for m in rest %}
{%- if m.role == 'user' %}{{- '[INST]' + (system if loop.first else '') + m.content + '[/INST]' }}
{%- elif m.role == 'assistant' %}{{- m.content + eos_token }}
{%- else %}{{- raise_exception('Only user and assistant roles are supported') }}
{%- endif %}
{%- endfor %}"""
STARCODER2 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}"
    "{% elif m['role'] == 'user' %}{% if loop.first %}{{ 'You are an intelligent coding assistant.\n\n' }}{% endif %}"
    "{{ '### Instruction\n' + m['content'] + '\n\n' }}"
    "{% else %}{{ '### Response\n' + m['content'] + eos_token + '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response\n' }}{% endif %}"
)
GRANITE = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|start_of_role|>system<|end_of_role|>You are Granite.<|end_of_text|>\n' }}{% endif %}{% for m in messages %}"
    "{{ '<|start_of_role|>' + m['role'] + '<|end_of_role|>' + m['content'] + '<|end_of_text|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MARKED = (  # says itself what the assistant's words are
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}{% else %}"
    "{{ m['content'] + '<|im_end|>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# name -> text, what ends an answer there, the end of text, whether there is a place for a system message
FAMILIES: dict[str, tuple[str, str, str, bool]] = {
    "chatml": (CHATML, "<|im_end|>", "<|im_end|>", True),
    "qwen2.5": (QWEN, "<|im_end|>", "<|im_end|>", True),
    "llama2": (LLAMA2, " </s>", "</s>", True),
    "llama3": (LLAMA3, "<|eot_id|>", "<|eot_id|>", True),
    "deepseek-coder": (DEEPSEEK_CODER, "\n<|EOT|>", "<|EOT|>", True),
    "mistral": (MISTRAL, "</s>", "</s>", True),
    "starcoder2-instruct": (STARCODER2, "<|endoftext|>", "<|endoftext|>", False),
    "granite": (GRANITE, "<|end_of_text|>", "<|end_of_text|>", True),
    "phi3": (PHI3, "<|end|>", "<|endoftext|>", True),
    "gemma": (GEMMA, "<end_of_turn>", "<eos>", False),
    "marked": (MARKED, "<|im_end|>", "<|im_end|>", True),
}
SPECIAL = (
    "<s>", "</s>", "<unk>", "<bos>", "<eos>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>",
    "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|EOT|>", "<|end|>", "<|user|>", "<|assistant|>",
    "<|system|>", "<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "<start_of_turn>", "<end_of_turn>",
    "[INST]", "[/INST]", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>", "<|repo_name|>",
    "<|file_sep|>",
)  # fmt: skip
BEGIN = {"llama2": "<s>", "llama3": "<|begin_of_text|>", "mistral": "<s>", "gemma": "<bos>",
         "deepseek-coder": "<s>", "starcoder2-instruct": "<|endoftext|>"}  # fmt: skip


def backend() -> Tokenizer:
    """Byte-level BPE over this file, with every family's marks."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        show_progress=False,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    made.train_from_iterator(Path(__file__).read_text(encoding="utf-8").splitlines(), trainer)
    # Qwen's are added tokens, but not special ones: an answer's text keeps them
    made.add_tokens([AddedToken(token, normalized=False) for token in ("<tool_call>", "</tool_call>")])
    return made


def write_folder(folder: Path, name: str, in_file: bool = False, **changes) -> Path:
    """A tokenizer's folder as a published model of that family has it.

    Args:
        in_file: the template lies in chat_template.jinja.
        changes: to tokenizer_config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text, _, eos, _ = FAMILIES[name]
    backend().save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos, "pad_token": "<|endoftext|>",
              "bos_token": BEGIN.get(name), "clean_up_tokenization_spaces": False, "add_bos_token": False}  # fmt: skip
    if in_file:
        (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
    else:
        config["chat_template"] = text
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return folder
