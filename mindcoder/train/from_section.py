"""Builds schedule, optimizer and loss scale from ``lr_schedule``, ``optimizer`` and ``runner_wrapper`` of the YAML
file.
"""

from __future__ import annotations

from mindcoder.config.schedule_keys import schedule_type
from mindcoder.config.schema import LrSchedule, RunConfig, ScaleSense
from mindcoder.errors import UserError
from mindcoder.train.optimizer import AdamWOptions, Correction
from mindcoder.train.precision import LossScale
from mindcoder.train.schedule import Kind, Schedule

KINDS: dict[str, Kind] = {
    "ConstantWarmUpLR": "constant",
    "LinearWithWarmUpLR": "linear",
    "CosineWithWarmUpLR": "cosine",
    "CosineWithRestartsAndWarmUpLR": "restarts",
    "PolynomialWithWarmUpLR": "polynomial",
    "WarmUpStableDecayLR": "wsd",
    "ConstantWithCoolDownLR": "cooldown",
    "CosineAnnealingLR": "annealing",
    "CosineAnnealingWarmRestarts": "warm_restarts",
}
SMALL_END = 1e-7  # MindFormers' default of lr_end for polynomial and WSD
STABLE_SHARE = 0.9  # fraction of a WSD run before its decay, unless the file gives it

# MindSpore's AdamWeightDecay and the classes MindFormers r1.1 derives from it have no bias correction.
CORRECTIONS: dict[str, Correction] = {
    "AdamW": "both",
    "adamw": "both",
    "AdamWeightDecay": "none",
    "FP32StateAdamWeightDecay": "none",
    "FusedAdamWeightDecay": "none",
    "FusedFP32StateAdamWeightDecay": "none",
    "AdamWeightDecayX": "rate",
}


def build_schedule(config: RunConfig, steps: int) -> Schedule:
    """Build the schedule from ``lr_schedule`` for a run of ``steps`` updates.

    Raises:
        UserError: there is no learning rate, or ``decay_steps`` ends a polynomial before the run ends.
    """
    section = config.lr_schedule
    kind = KINDS[schedule_type(section.type)]
    total = steps if section.total_steps <= 0 else section.total_steps
    peak = section.base_lr if kind in ("annealing", "warm_restarts") else section.learning_rate
    peak = config.optimizer.learning_rate if peak is None else peak
    if peak is None:
        raise UserError("lr_schedule.learning_rate is missing (or optimizer.learning_rate)")
    warmup = _steps(section.warmup_steps, section.warmup_ratio, total)
    decay_steps = _decay_steps(section, kind, total)
    if kind == "polynomial" and decay_steps and decay_steps < total - warmup:
        raise UserError(
            f"lr_schedule.decay_steps: {decay_steps} is less than the {total - warmup} updates after the warm-up, "
            "where the rate would be negative"
        )
    return Schedule(
        kind,
        peak,
        total,
        warmup,
        section.warmup_lr_init,
        _end(section, kind, peak),
        _decay_start(section, total),
        decay_steps,
        section.num_cycles if section.num_cycles is not None else 1.0 if kind == "restarts" else 0.5,
        1.0 if section.power is None else section.power,
        section.keep_steps,
        section.final_steps,
        section.lr_end2 or section.lr_end1,
        section.t_mult,
    )


def _end(section: LrSchedule, kind: Kind, peak: float) -> float:
    """Learning rate at the end of the decay."""
    if kind == "cooldown":
        return section.lr_end1
    if kind in ("annealing", "warm_restarts"):
        return section.eta_min
    if section.lr_end is not None:
        return section.lr_end
    return min(SMALL_END, peak) if kind in ("polynomial", "wsd") else 0.0


def _steps(steps: int, ratio: float | None, total: int) -> int:
    """A number of steps, overridden by a fraction of the total."""
    return steps if ratio is None else int(ratio * total)


def _decay_start(section: LrSchedule, total: int) -> int:
    if section.decay_start_steps is None and section.decay_start_ratio is None:
        return int(STABLE_SHARE * total)
    return _steps(section.decay_start_steps or 0, section.decay_start_ratio, total)


def _decay_steps(section: LrSchedule, kind: Kind, total: int) -> int:
    """See `Schedule.decay_steps`."""
    if kind == "annealing":
        return section.t_max or 1
    if kind == "warm_restarts":
        return section.t_0 or 1
    if section.decay_ratio is not None:
        return max(int(section.decay_ratio * total), 1)
    return 0 if section.decay_steps is None else max(section.decay_steps, 1)


def build_loss_scale(config: RunConfig) -> LossScale:
    """Build the loss scale from ``runner_wrapper.scale_sense``; only float16 needs one."""
    sense = config.runner_wrapper.scale_sense
    if sense is None or config.model.settings.compute_dtype != "float16":
        return LossScale()
    if isinstance(sense, ScaleSense):
        factor = 1 if sense.type == "FixedLossScaleUpdateCell" else sense.scale_factor
        return LossScale(sense.loss_scale_value, factor, sense.scale_window)
    return LossScale(sense)


def build_optimizer(config: RunConfig) -> AdamWOptions:
    """Build the options of ``optimizer``: AdamW for all types, which differ in bias correction."""
    section = config.optimizer
    beta1, beta2 = section.betas or (section.beta1, section.beta2)
    return AdamWOptions(beta1, beta2, section.eps, section.weight_decay, CORRECTIONS[section.type])
