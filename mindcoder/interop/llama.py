"""Llama for MindFormers: configuration, model and tokenizer under names that MindFormers does not use."""

from __future__ import annotations

from mindformers.tools.register import MindFormerModuleType, MindFormerRegister

from mindcoder.config.model_section import LlamaSection
from mindcoder.interop.config import LLAMA_DEFAULTS, DecoderPretrainedConfig
from mindcoder.interop.decoder_model import CodeTokenizerFast, DecoderForCausalLM


@MindFormerRegister.register(MindFormerModuleType.CONFIG)
class CodeLlamaConfig(DecoderPretrainedConfig):
    """``model.model_config`` with ``type: CodeLlamaConfig``."""

    model_type = "codellama"
    section_class = LlamaSection
    section_type = "CodeLlamaConfig"
    defaults = LLAMA_DEFAULTS


@MindFormerRegister.register(MindFormerModuleType.MODELS)
class CodeLlamaForCausalLM(DecoderForCausalLM):
    """Llama, Code Llama or WizardCoder-Python with its head; MindFormers keeps ``LlamaForCausalLM`` for its own."""

    config_class = CodeLlamaConfig


@MindFormerRegister.register(MindFormerModuleType.TOKENIZER)
class CodeLlamaCodeTokenizer(CodeTokenizerFast):
    """Llama's tokenizer."""
