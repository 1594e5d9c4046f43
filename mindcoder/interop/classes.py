"""MindFormers' classes of every family: configuration, model and tokenizer, registered under the family's names."""

from __future__ import annotations

import functools
from typing import Any

from mindformers.tools.register import MindFormerModuleType, MindFormerRegister

from mindcoder.families.base import MindFormersClasses
from mindcoder.families.registry import FAMILIES, family_of_type
from mindcoder.interop.config import DecoderPretrainedConfig
from mindcoder.interop.decoder_model import CodeTokenizerFast, DecoderForCausalLM


@functools.cache
def mindformers_classes(names: MindFormersClasses) -> dict[str, type]:
    """The three classes by name; the first call registers them in MindFormers."""
    family = family_of_type(names.section_type)

    def make(kind: str, name: str, base: type, doc: str, **attributes: Any) -> type:
        made = type(name, (base,), {"__doc__": doc, "__module__": __name__, **attributes})
        return MindFormerRegister.register_cls(made, kind)

    config = make(
        MindFormerModuleType.CONFIG,
        names.config,
        DecoderPretrainedConfig,
        f"``model.model_config`` with ``type: {names.section_type}``.",
        model_type=names.model_type,
        section_class=family.section,
        section_type=names.section_type,
        defaults=names.defaults,
    )
    model = make(
        MindFormerModuleType.MODELS,
        names.model,
        DecoderForCausalLM,
        f"{family.class_prefix} with its head.",
        config_class=config,
    )
    tokenizer = make(
        MindFormerModuleType.TOKENIZER, names.tokenizer, CodeTokenizerFast, f"{family.class_prefix}'s tokenizer."
    )
    return {made.__name__: made for made in (config, model, tokenizer)}


def __getattr__(name: str) -> Any:
    """``from mindcoder.interop.classes import WizardCoderConfig``: a class is made when it is first asked for."""
    for family in FAMILIES.values():
        for names in family.mindformers:
            if name in (names.config, names.model, names.tokenizer):
                return mindformers_classes(names)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
