"""The YAML file's ``pet_method`` and ``model.model_config.pet_config`` as `LoraOptions`."""

from __future__ import annotations

from mindcoder.config.schema import RunConfig
from mindcoder.peft.options import LoraOptions


def lora_options(config: RunConfig) -> LoraOptions | None:
    """``pet_config``; None where all weights are trained."""
    section = config.model.settings.pet_config
    if section is None:
        return LoraOptions() if config.pet_method else None

    def patterns(given: str | list[str] | None, default: tuple[str, ...]) -> tuple[str, ...]:
        return default if given is None else (given,) if isinstance(given, str) else tuple(given)

    return LoraOptions(
        section.lora_rank,
        section.lora_alpha,
        section.lora_dropout,
        patterns(section.target_modules, LoraOptions.target_modules),
        patterns(section.exclude_layers, ()),
        section.use_rslora,
        section.loraplus_lr_ratio,
    )
