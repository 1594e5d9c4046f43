"""StarCoder for MindFormers: configuration, model and tokenizer under the names MindFormers used."""

from __future__ import annotations

from mindformers.tools.register import MindFormerModuleType, MindFormerRegister

from mindcoder.config.model_section import ModelConfigSection
from mindcoder.interop.config import DecoderPretrainedConfig
from mindcoder.interop.decoder_model import CodeTokenizerFast, DecoderForCausalLM


@MindFormerRegister.register(MindFormerModuleType.CONFIG)
class StarCoderConfig(DecoderPretrainedConfig):
    """``model.model_config`` with ``type: StarCoderConfig``."""

    model_type = "starcoder"
    section_class = ModelConfigSection
    section_type = "StarCoderConfig"


@MindFormerRegister.register(MindFormerModuleType.MODELS)
class StarCoderLMHeadModel(DecoderForCausalLM):
    """GPT-BigCode with its head."""

    config_class = StarCoderConfig


@MindFormerRegister.register(MindFormerModuleType.TOKENIZER)
class StarCoderTokenizer(CodeTokenizerFast):
    """StarCoder's tokenizer."""
