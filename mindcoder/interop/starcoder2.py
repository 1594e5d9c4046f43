"""StarCoder2 for MindFormers: configuration, model and tokenizer under the names of its YAML files."""

from __future__ import annotations

from mindformers.tools.register import MindFormerModuleType, MindFormerRegister

from mindcoder.config.model_section import StarCoder2Section
from mindcoder.interop.config import DecoderPretrainedConfig
from mindcoder.interop.decoder_model import CodeTokenizerFast, DecoderForCausalLM


@MindFormerRegister.register(MindFormerModuleType.CONFIG)
class StarCoder2Config(DecoderPretrainedConfig):
    """``model.model_config`` with ``type: StarCoder2Config``."""

    model_type = "starcoder2"
    section_class = StarCoder2Section
    section_type = "StarCoder2Config"


@MindFormerRegister.register(MindFormerModuleType.MODELS)
class StarCoder2ForCausalLM(DecoderForCausalLM):
    """StarCoder2 with its head."""

    config_class = StarCoder2Config


@MindFormerRegister.register(MindFormerModuleType.TOKENIZER)
class StarCoder2Tokenizer(CodeTokenizerFast):
    """StarCoder2's tokenizer."""
