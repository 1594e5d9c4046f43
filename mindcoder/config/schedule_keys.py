"""The keys of each ``lr_schedule`` type, as in MindFormers 1.9 (mindformers/core/lr/lr_schedule.py)."""

from __future__ import annotations

from mindcoder.config.schema import RunConfig
from mindcoder.config.source import YamlSource
from mindcoder.errors import UserError

ALIASES = {  # Hugging Face's schedule names, which MindFormers registers beside its own
    "constant_with_warmup": "ConstantWarmUpLR",
    "linear": "LinearWithWarmUpLR",
    "cosine": "CosineWithWarmUpLR",
    "cosine_with_restarts": "CosineWithRestartsAndWarmUpLR",
    "polynomial": "PolynomialWithWarmUpLR",
    "cosine_annealing": "CosineAnnealingLR",
    "cosine_annealing_warm_restarts": "CosineAnnealingWarmRestarts",
}
WARM_UP = {"type", "learning_rate", "warmup_steps", "warmup_ratio", "warmup_lr_init", "total_steps"}
KEYS = {
    "ConstantWarmUpLR": WARM_UP,
    "LinearWithWarmUpLR": WARM_UP,
    "CosineWithWarmUpLR": WARM_UP | {"num_cycles", "lr_end", "decay_steps", "decay_ratio"},
    "CosineWithRestartsAndWarmUpLR": WARM_UP | {"num_cycles", "lr_end", "decay_steps"},
    "PolynomialWithWarmUpLR": WARM_UP | {"lr_end", "power", "decay_steps"},
    "WarmUpStableDecayLR": WARM_UP | {"lr_end", "decay_start_steps", "decay_start_ratio"},
    "ConstantWithCoolDownLR": WARM_UP
    | {"keep_steps", "decay_steps", "decay_ratio", "num_cycles", "lr_end1", "final_steps", "lr_end2"},
    "CosineAnnealingLR": {"type", "base_lr", "t_max", "eta_min"},
    "CosineAnnealingWarmRestarts": {"type", "base_lr", "t_0", "t_mult", "eta_min"},
}
NEEDED = {"CosineAnnealingLR": ("base_lr", "t_max"), "CosineAnnealingWarmRestarts": ("base_lr", "t_0")}


def schedule_type(name: str) -> str:
    """MindFormers' class for a type or its alias."""
    return ALIASES.get(name, name)


def check_schedule(config: RunConfig, source: YamlSource) -> None:
    """Refuse keys that the schedule's type does not have, and a training run without a learning rate.

    Raises:
        UserError: names the key and what is expected.
    """
    section = config.lr_schedule
    kind = schedule_type(section.type)

    def refuse(message: str, key: str) -> None:
        file, line = source.location(("lr_schedule", key))
        raise UserError(f"lr_schedule.{key}: {message}", file, line)

    for key in sorted(section.model_fields_set - KEYS[kind]):
        value = getattr(section, key)
        if value not in (None, 0) and not (key == "total_steps" and value == -1):
            refuse(f"{section.type} has no such key; its keys: {', '.join(sorted(KEYS[kind]))}", key)
    trains = config.run_mode in ("train", "finetune") and "run_mode" in source.data  # export files have neither
    for key in NEEDED.get(kind, ()):
        if getattr(section, key) is None and trains:
            refuse(f"is missing, {section.type} needs it", key)
    peak = section.base_lr if kind in NEEDED else section.learning_rate
    if peak is None:
        peak = config.optimizer.learning_rate
    if peak is None and trains:
        file, line = source.location(("lr_schedule",))
        raise UserError("lr_schedule.learning_rate is missing (or optimizer.learning_rate)", file, line)
    if kind in ("PolynomialWithWarmUpLR", "WarmUpStableDecayLR") and section.lr_end is not None and peak is not None:
        if section.lr_end >= peak:
            refuse(f"found {section.lr_end:g}, expected less than learning_rate {peak:g}", "lr_end")
