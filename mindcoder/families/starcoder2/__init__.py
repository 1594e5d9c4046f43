"""StarCoder2: grouped-query attention, rotary positions, a sliding window (Lozhkov et al. 2024)."""

from __future__ import annotations

from mindcoder.families.base import Family, MindFormersClasses
from mindcoder.families.infill_tokens import InfillTokens, RepositoryForm
from mindcoder.families.prompt_template import PromptTemplate
from mindcoder.families.starcoder2.gguf import FORM
from mindcoder.families.starcoder2.huggingface import FIELDS, WEIGHTS
from mindcoder.families.starcoder2.section import StarCoder2Section, network

INTRODUCTION = (
    "You are an exceptionally intelligent coding assistant that consistently delivers accurate and reliable "
    "responses to user instructions.\n\n"
)
INSTRUCT = PromptTemplate(
    INTRODUCTION + "### Instruction\n{instruction}\n\n### Response\n",
    INTRODUCTION + "### Instruction\n{instruction}\n\n{input}\n\n### Response\n",
    "model card of bigcode/starcoder2-15b-instruct-v0.1",
    turn_mark="### Instruction",
    is_chat_template=True,
)

# Lozhkov et al. 2024, section on data formatting: the path stands behind the mark of the prefix.
INFILL = InfillTokens(
    "<fim_prefix>",
    "<fim_suffix>",
    "<fim_middle>",
    ends=("<file_sep>",),
    repository=RepositoryForm("<repo_name>{name}", "<file_sep>{path}\n{content}", "<file_sep>", "{path}\n", False),
    needs=("<repo_name>", "<file_sep>"),
)

FAMILY = Family(
    model_type="starcoder2",
    class_prefix="Starcoder2",
    field_map=FIELDS,
    weights=WEIGHTS,
    section=StarCoder2Section,
    network=network,
    architectures={"StarCoder2Config": "StarCoder2ForCausalLM"},
    tokenizers=("StarCoder2Tokenizer",),
    templates={"starcoder2-instruct": INSTRUCT},
    default_template="starcoder2-instruct",
    infill=(INFILL,),
    mindformers=(
        MindFormersClasses(
            "StarCoder2Config",
            config="StarCoder2Config",
            model="StarCoder2ForCausalLM",
            tokenizer="StarCoder2Tokenizer",
            model_type="starcoder2",
        ),
    ),
    gguf=FORM,
)
