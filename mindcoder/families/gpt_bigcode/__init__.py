"""GPT-BigCode: StarCoder, StarCoderBase, SantaCoder-style models and WizardCoder."""

from __future__ import annotations

from mindcoder.families.base import Family
from mindcoder.families.gpt_bigcode.gguf import FORM
from mindcoder.families.gpt_bigcode.huggingface import FIELDS, WEIGHTS
from mindcoder.families.gpt_bigcode.mindformers import CLASSES
from mindcoder.families.gpt_bigcode.section import GptBigCodeSection, network
from mindcoder.families.infill_tokens import InfillTokens
from mindcoder.families.prompt_template import PromptTemplate

WIZARDCODER = PromptTemplate(
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:",
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:",
    "github.com/nlpxucan/WizardLM, WizardCoder/src (Alpaca's templates); WizardCoder and WizardCoder-Python",
    turn_mark="### Instruction",
)

FAMILY = Family(
    model_type="gpt_bigcode",
    class_prefix="GPTBigCode",
    field_map=FIELDS,
    weights=WEIGHTS,
    section=GptBigCodeSection,
    network=network,
    architectures={"WizardCoderConfig": "WizardCoderLMHeadModel", "StarCoderConfig": "StarCoderLMHeadModel"},
    tokenizers=("WizardCoderTokenizer", "StarCoderTokenizer"),
    templates={"wizardcoder": WIZARDCODER},
    default_template="wizardcoder",
    infill=(  # StarCoder's and Granite-Code's, SantaCoder's
        InfillTokens("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
        InfillTokens("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ),
    mindformers=CLASSES,
    gguf=FORM,
)
