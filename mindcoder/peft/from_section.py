"""Reads ``pet_method`` and ``model.model_config.pet_config`` of the YAML file as `LoraOptions` or `PrefixOptions`."""

from __future__ import annotations

from mindcoder.config.schema import RunConfig
from mindcoder.peft.options import LoraOptions, PrefixOptions


def lora_options(config: RunConfig) -> LoraOptions | None:
    """Options of LoRA from ``pet_config``; None for other methods and full fine-tuning."""
    section = config.adapter
    if section is None or section.pet_type != "lora":
        return None

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
        section.use_dora,
    )


def prefix_options(config: RunConfig) -> PrefixOptions | None:
    """Options of prefix tuning from ``pet_config``; None for other methods and full fine-tuning."""
    section = config.adapter
    if section is not None and section.pet_type == "prefixtuning":  # always with the projection, as in MindFormers r1.3
        return PrefixOptions(section.prefix_token_num, True, section.mid_dim, section.dropout_rate)
    if section is None or section.pet_type != "ptuning2":
        return None
    return PrefixOptions(section.pre_seq_len, section.prefix_projection, section.projection_dim, section.dropout_prob)
