"""WizardCoder for MindFormers: configuration, model and tokenizer under the names that the original scripts import."""

from __future__ import annotations

from mindformers.tools.register import MindFormerModuleType, MindFormerRegister

from mindcoder.config.model_section import ModelConfigSection
from mindcoder.interop.config import WIZARDCODER_DEFAULTS, DecoderPretrainedConfig
from mindcoder.interop.decoder_model import CodeTokenizerFast, DecoderForCausalLM


@MindFormerRegister.register(MindFormerModuleType.CONFIG)
class WizardCoderConfig(DecoderPretrainedConfig):
    """``model.model_config`` with ``type: WizardCoderConfig``."""

    model_type = "wizardcoder"
    section_class = ModelConfigSection
    section_type = "WizardCoderConfig"
    defaults = WIZARDCODER_DEFAULTS


@MindFormerRegister.register(MindFormerModuleType.MODELS)
class WizardCoderLMHeadModel(DecoderForCausalLM):
    """GPT-BigCode with its head."""

    config_class = WizardCoderConfig


@MindFormerRegister.register(MindFormerModuleType.TOKENIZER)
class WizardCoderTokenizer(CodeTokenizerFast):
    """WizardCoder's tokenizer."""
